"""The one exception for whatever goes wrong between Lockkeeper and AWS."""

from collections.abc import Iterator
from contextlib import contextmanager

import botocore.exceptions as boto

# Besides HTTP 429 and 5xx: codes that AWS's retry guidance calls transient or throttling.
RETRYABLE_CODES = frozenset(
    {
        "ConditionalRequestConflict",
        "InternalError",
        "InternalFailure",
        "OperationAborted",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
# What an operator has to change, where AWS's own text leaves it open.
ADVICE = {
    "AccessDenied": "Allow the action in the role that Lockkeeper runs as.",
    "AccessDeniedException": "Allow the action in the role that Lockkeeper runs as.",
    "ExpiredToken": "Renew the credentials.",
    "ExpiredTokenException": "Renew the credentials.",
    "InvalidClientTokenId": "Check the credentials and the region.",
    "UnrecognizedClientException": "Check the credentials and the region.",
}


class AwsError(Exception):
    """AWS did not do what it was asked.

    ``retryable`` says whether the same call may succeed later without anybody changing anything; ``code``
    is AWS's error code, or botocore's exception name where no answer came.
    """

    def __init__(self, message: str, *, retryable: bool, code: str) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.code = code


@contextmanager
def translated(action: str) -> Iterator[None]:
    """Turn botocore's exceptions into AwsError; ``action`` names the call, as in ``S3 HeadObject``."""
    try:
        yield
    except boto.ClientError as error:
        raise _of_answer(action, error) from error
    except (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError) as error:
        raise AwsError(
            f"{action}: there are no usable AWS credentials ({error}). Give the process a role.",
            retryable=False,
            code=type(error).__name__,
        ) from error
    except boto.NoRegionError as error:
        raise AwsError(
            f"{action}: no region is set. Set AWS_REGION or AWS_DEFAULT_REGION.",
            retryable=False,
            code="NoRegionError",
        ) from error
    except boto.ParamValidationError as error:
        detail = " ".join(str(error).split())
        raise AwsError(f"{action}: {detail}", retryable=False, code="ParamValidationError") from error
    except (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError) as error:
        # Nobody there, too slow, or cut off halfway.
        raise AwsError(
            f"{action}: AWS did not answer ({error})", retryable=True, code=type(error).__name__
        ) from error
    except boto.BotoCoreError as error:
        raise AwsError(f"{action}: {error}", retryable=False, code=type(error).__name__) from error


def _of_answer(action: str, error: boto.ClientError) -> AwsError:
    answer = error.response.get("Error", {})
    code = str(answer.get("Code") or "Unknown")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    message = " ".join(str(answer.get("Message") or "no message").split())
    advice = f" {ADVICE[code]}" if code in ADVICE else ""
    return AwsError(
        f"{action}: {code}: {message[:500]}{advice}",
        retryable=code in RETRYABLE_CODES or status == 429 or status >= 500,
        code=code,
    )
