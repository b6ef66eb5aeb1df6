package main

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"
)

// answerTimeout is generous: a request that takes longer counts as an error.
const answerTimeout = 30 * time.Second

type credentials struct{ accessKey, secretKey, region string }

// client sends one request at a time over one kept-open connection. net/http costs three times as
// much CPU a request, which on one core would measure the generator instead of the server.
type client struct {
	address string
	keys    credentials
	conn    net.Conn
	reader  *bufio.Reader
	request bytes.Buffer
	answer  bytes.Buffer

	second     int64 // the stamps below belong to this second
	stamp, day string
	signingKey []byte
	signingDay string
}

func newClient(address string, keys credentials) *client {
	return &client{address: address, keys: keys}
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// call posts one operation. The answer is valid until the next call.
func (c *client) call(operation, body string) (int, []byte, error) {
	if c.conn == nil {
		conn, err := net.DialTimeout("tcp", c.address, answerTimeout)
		if err != nil {
			return 0, nil, err
		}
		c.conn, c.reader = conn, bufio.NewReaderSize(conn, 64<<10)
	}
	c.conn.SetDeadline(time.Now().Add(answerTimeout))
	c.sign(operation, body)
	if _, err := c.conn.Write(c.request.Bytes()); err != nil {
		c.close()
		return 0, nil, err
	}
	status, kept, err := c.read()
	if err != nil || !kept {
		c.close()
	}
	return status, c.answer.Bytes(), err
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	io.WriteString(h, text)
	return h.Sum(nil)
}

func hexHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// sign writes the request with its Signature Version 4 into c.request.
func (c *client) sign(operation, body string) {
	if now := time.Now().UTC(); now.Unix() != c.second {
		c.second, c.stamp, c.day = now.Unix(), now.Format("20060102T150405Z"), now.Format("20060102")
		if c.day != c.signingDay {
			key := mac([]byte("AWS4"+c.keys.secretKey), c.day)
			key = mac(mac(key, c.keys.region), "dynamodb")
			c.signingKey, c.signingDay = mac(key, "aws4_request"), c.day
		}
	}
	const signed = "content-type;host;x-amz-date;x-amz-target"
	target := "DynamoDB_20120810." + operation
	canonical := "POST\n/\n\ncontent-type:application/x-amz-json-1.0\nhost:" + c.address +
		"\nx-amz-date:" + c.stamp + "\nx-amz-target:" + target + "\n\n" + signed + "\n" + hexHash(body)
	scope := c.day + "/" + c.keys.region + "/dynamodb/aws4_request"
	signature := mac(c.signingKey, "AWS4-HMAC-SHA256\n"+c.stamp+"\n"+scope+"\n"+hexHash(canonical))

	c.request.Reset()
	fmt.Fprintf(&c.request, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-amz-json-1.0\r\n"+
		"X-Amz-Date: %s\r\nX-Amz-Target: %s\r\nAuthorization: AWS4-HMAC-SHA256 Credential=%s/%s, "+
		"SignedHeaders=%s, Signature=%x\r\nContent-Length: %d\r\n\r\n%s",
		c.address, c.stamp, target, c.keys.accessKey, scope, signed, signature, len(body), body)
}

// read takes one answer off the connection and says whether the connection stays open.
func (c *client) read() (status int, kept bool, err error) {
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return 0, false, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return 0, false, fmt.Errorf("no HTTP answer: %q", line)
	}
	kept = line[7] == '1'
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, false, err
	}
	length, chunked := -1, false
	for {
		line, err = c.reader.ReadSlice('\n')
		if err != nil {
			return 0, false, err
		}
		if len(line) <= 2 {
			break
		}
		name, value, _ := strings.Cut(strings.TrimSpace(string(line)), ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "content-length":
			if length, err = strconv.Atoi(value); err != nil {
				return 0, false, err
			}
		case "transfer-encoding":
			chunked = strings.EqualFold(value, "chunked")
		case "connection":
			kept = !strings.EqualFold(value, "close")
		}
	}
	c.answer.Reset()
	switch {
	case chunked:
		if _, err = c.answer.ReadFrom(httputil.NewChunkedReader(c.reader)); err == nil {
			_, err = c.reader.ReadSlice('\n') // the empty line after the last chunk
		}
	case length >= 0:
		_, err = io.CopyN(&c.answer, c.reader, int64(length))
	default:
		err = errors.New("an answer without a length")
	}
	return status, kept, err
}
