"""What is told to a person of a connection that failed."""

import os
import ssl

__all__ = ["why_failed"]


def why_failed(error: Exception) -> str:
    """Return what went wrong, without the names of classes and calls."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not taken: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS fails: {error.reason or error}"
        case TimeoutError():
            return "no answer in time"
        case OSError(errno=int(number)) if number > 0:
            # asyncio's text is about the call, not about why it failed. Names have other numbers.
            return os.strerror(number)
        case OSError():
            return error.strerror or str(error) or type(error).__name__
    return str(error)
