/* A disk that is slow, for the process that this is preloaded into.
 *
 * SLOW_DISK is a file with a struct `how`; whoever changes it changes how slow the disk is. Calls on
 * files below SLOW_DISK_FOLDER wait: syncs, and writes of `smallest` bytes or more (what is smaller
 * ends in the page cache, also where the disk stands still).
 *
 * Linux' native asynchronous I/O does not come through here, so it is said not to be there.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct how {
    long from_ms, to_ms, smallest, still;
};

static volatile struct how *how;
static const char *folder;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SLOW_DISK");
    folder = getenv("SLOW_DISK_FOLDER");
    int fd = path && folder ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *found = mmap(NULL, sizeof(struct how), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (found != MAP_FAILED) how = found;
}

static int below(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    size_t start = strlen(folder);
    return length > (ssize_t)start && memcmp(path, folder, start) == 0 && path[start] == '/';
}

static void nap(long ms) {
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left) && errno == EINTR) {}
}

static void wait_for_disk(int fd, long size) {
    static __thread unsigned chance;
    if (!how || (!how->to_ms && !how->still) || size < how->smallest || !below(fd)) return;
    int kept = errno;
    if (!chance) chance = (unsigned)(size_t)&chance ^ (unsigned)time(NULL);
    long from = how->from_ms, to = how->to_ms;
    if (to) nap(from + rand_r(&chance) % (to - from + 1));
    while (how->still) nap(10);
    errno = kept;
}

#define NEXT(name) \
    static __typeof__(name) *next; \
    if (!next) next = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) {
    NEXT(write);
    wait_for_disk(fd, (long)size);
    return next(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    NEXT(pwrite);
    wait_for_disk(fd, (long)size);
    return next(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    NEXT(pwrite64);
    wait_for_disk(fd, (long)size);
    return next(fd, data, size, at);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    NEXT(writev);
    long size = 0;
    for (int i = 0; i < count; i++) size += (long)parts[i].iov_len;
    wait_for_disk(fd, size);
    return next(fd, parts, count);
}

int fsync(int fd) {
    NEXT(fsync);
    wait_for_disk(fd, LONG_MAX);
    return next(fd);
}

int fdatasync(int fd) {
    NEXT(fdatasync);
    wait_for_disk(fd, LONG_MAX);
    return next(fd);
}

int sync_file_range(int fd, off64_t at, off64_t size, unsigned flags) {
    NEXT(sync_file_range);
    wait_for_disk(fd, LONG_MAX);
    return next(fd, at, size, flags);
}

long syscall(long number, ...) {
    NEXT(syscall);
    if (how && number == SYS_io_setup) {
        errno = ENOSYS;
        return -1;
    }
    va_list rest;
    long a[6];
    va_start(rest, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(rest, long);
    va_end(rest);
    return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
