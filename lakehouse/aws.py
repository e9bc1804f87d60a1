"""AWS's credential chain, and the errors of AWS's clients as one line that says what to do.

Four clients reach AWS: boto3, obstore, Arrow and DuckDB. All of them pass on the codes that the service answers with.
"""

import re
from collections.abc import Callable
from functools import lru_cache

from lakehouse.errors import LakehouseError

SET_CREDENTIALS = (
    "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, log in by `aws sso login`, or run with a role; or set"
    " LAKEHOUSE_S3_ACCESS_KEY_ID and LAKEHOUSE_S3_SECRET_ACCESS_KEY"
)

MAX_MESSAGE_CHARACTERS = 300

_XML = re.compile(r"<Code>(?P<code>[^<]*)</Code>\s*<Message>(?P<message>[^<]*)</Message>")
_ACTION = re.compile(
    r"not authorized to perform:? (?P<action>[a-zA-Z0-9-]+:\w+)(?: on resource:? (?P<resource>[^\s\"<]+))?"
)
_OPERATION = re.compile(r"(?:when calling the|during) (?P<operation>\w+) operation")
_PERMISSIONS = {"HeadObject": "s3:GetObject", "ListObjectsV2": "s3:ListBucket", "CreateMultipartUpload": "s3:PutObject"}
"""The permission for an operation of S3 that has another name; Glue's and others have the operation's."""

_REGION = re.compile(r"expecting '(?P<region>[a-z0-9-]+)'")


@lru_cache(maxsize=1)
def require_credentials() -> None:
    """Raise LakehouseError unless the AWS credential chain has credentials. A success is remembered."""
    import boto3  # takes a third of a second, and keys of one's own need none of it
    from botocore.exceptions import BotoCoreError

    try:
        credentials = boto3.Session().get_credentials()
        if credentials is not None:
            credentials.get_frozen_credentials()
            return
    except BotoCoreError as error:
        raise LakehouseError(explain(error) or f"AWS credentials can't be read: {error}.") from error
    raise LakehouseError(f"There are no AWS credentials. {SET_CREDENTIALS}.")


def explain(error: BaseException, doing: str = "") -> str | None:
    """Say on one line what is wrong with credentials, permissions, region, bucket or clock, and what to do.

    Returns None for any other error. `doing` is the action that was denied, where the error does not name it.
    """
    text = str(error)
    kind = type(error).__name__
    for names, message in _BY_CLASS:
        if kind in names:
            return f"{message} ({_short(text)})."
    for codes, describe in _BY_CODE:
        if codes.search(text):
            return describe(text, doing)
    return None


def is_client_error(error: BaseException) -> bool:
    """Return whether boto3 raised this error."""
    return type(error).__module__.partition(".")[0] in {"boto3", "botocore"}


def _expired(text: str, _doing: str) -> str:
    return (
        "The AWS session token has expired. Log in again (`aws sso login`), or set new keys and their token; the AWS credential"
        f" chain renews those of a role by itself ({_short(text)})."
    )


def _invalid(text: str, _doing: str) -> str:
    return (
        "AWS does not know the access key, or the secret or session token is not the key's. Check"
        " LAKEHOUSE_S3_ACCESS_KEY_ID, LAKEHOUSE_S3_SECRET_ACCESS_KEY and LAKEHOUSE_S3_SESSION_TOKEN, or AWS's own variables"
        f" ({_short(text)})."
    )


def _denied(text: str, doing: str) -> str:
    if match := _ACTION.search(text):
        resource = f" on {match['resource'].rstrip('.')}" if match["resource"] else ""
        return f"{match['action']}{resource} is denied. Allow it in the policy of the role or user."
    operation = _OPERATION.search(text)
    action = _PERMISSIONS.get(operation["operation"], operation["operation"]) if operation and not doing else doing
    return f"{action or 'This request'} is denied. Allow it in the policy of the role or user ({_short(text)})."


def _other_region(text: str, _doing: str) -> str:
    match = _REGION.search(text)
    where = f"set LAKEHOUSE_S3_REGION={match['region']}" if match else "set LAKEHOUSE_S3_REGION to the bucket's region"
    return f"The bucket is in another region; {where} ({_short(text)})."


def _unexplained(text: str, _doing: str) -> str:
    return (
        "S3 gives no reason, as for a session token that has expired, or for a bucket in another region: log in again, and"
        f" check LAKEHOUSE_S3_REGION ({_short(text)})."
    )


def _no_bucket(text: str, _doing: str) -> str:
    return (
        f"There is no such bucket; create it, or set LAKEHOUSE_BUCKET and LAKEHOUSE_CATALOG_WAREHOUSE ({_short(text)})."
    )


def _clock(text: str, _doing: str) -> str:
    return f"This machine's clock and AWS's differ by more than 15 minutes; set this one right ({_short(text)})."


def _short(text: str) -> str:
    """Return what the service says, or else what its client says of it."""
    if match := _XML.search(text):
        text = f"{match['code']}: {match['message']}"
    return re.sub(r"\s+", " ", text).strip().rstrip(".")[:MAX_MESSAGE_CHARACTERS]


_BY_CLASS = (
    ({"NoCredentialsError", "NoAuthTokenError"}, f"There are no AWS credentials. {SET_CREDENTIALS}"),
    ({"PartialCredentialsError"}, f"The AWS credentials are incomplete. {SET_CREDENTIALS}"),
    ({"ProfileNotFound"}, "AWS_PROFILE names a profile that `~/.aws/config` does not have"),
    (
        {"UnauthorizedSSOTokenError", "SSOTokenLoadError", "TokenRetrievalError", "SSOError"},
        "The login of AWS SSO has expired. Log in again: aws sso login",
    ),
    (
        {"CredentialRetrievalError", "MetadataRetrievalError"},
        "The AWS credentials can't be fetched from where the profile or role says",
    ),
    ({"NoRegionError", "InvalidRegionError"}, "Set LAKEHOUSE_S3_REGION to a region of AWS"),
)
"""Errors of botocore, by the names of their classes, so that it is imported where it is used alone."""

_BY_CODE: tuple[tuple[re.Pattern[str], Callable[[str, str], str]], ...] = (
    (re.compile(r"RequestTimeTooSkewed|Signature (?:not yet current|expired)"), _clock),
    (re.compile(r"\b(?:ExpiredToken(?:Exception)?|TokenRefreshRequired|RequestExpired)\b"), _expired),
    (
        re.compile(
            r"\b(?:InvalidClientTokenId|UnrecognizedClientException|InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken"
            r"|InvalidSignatureException|IncompleteSignature(?:Exception)?|MissingAuthenticationToken(?:Exception)?|AuthFailure)\b"
        ),
        _invalid,
    ),
    (
        re.compile(
            r"\b(?:AuthorizationHeaderMalformed|PermanentRedirect|IllegalLocationConstraintException)\b"
            r"|Received redirect without LOCATION|\bHTTP (?:status )?301\b|\(301\) when calling"
        ),
        _other_region,
    ),
    # The answer to a HEAD request has a status and no reason.
    (re.compile(r"HTTP status 400\)|Error performing HEAD .* 400 Bad Request|\(400\) when calling"), _unexplained),
    (re.compile(r"\bNoSuchBucket\b"), _no_bucket),
    (
        re.compile(
            r"\b(?:AccessDenied(?:Exception)?|ACCESS_DENIED|UnauthorizedOperation|NotAuthorized|AuthorizationError)\b"
            r"|\(403\) when calling"
        ),
        _denied,
    ),
)
"""Codes that services answer with, https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList and
https://docs.aws.amazon.com/glue/latest/webapi/CommonErrors.html."""
