"""The retry policy: attempts go on while the condition holds, and end with the last outcome."""

import pytest
from tenacity import retry_if_exception_type, retry_if_result, stop_after_attempt

from lakehouse.storage.retry import retrying


def test_attempts_go_on_until_one_succeeds() -> None:
    numbers = iter(range(9))

    def attempt() -> int:
        number = next(numbers)
        if number < 2:
            raise OSError(f"attempt {number}")
        return number

    assert retrying(retry_if_exception_type(OSError))(attempt) == 2


def test_other_errors_are_not_retried() -> None:
    attempts: list[int] = []

    def attempt() -> None:
        attempts.append(1)
        raise KeyError("other")

    with pytest.raises(KeyError, match="other"):
        retrying(retry_if_exception_type(OSError))(attempt)
    assert len(attempts) == 1


def test_last_error_is_raised_at_the_limit() -> None:
    numbers = iter(range(9))

    def attempt() -> None:
        raise OSError(f"attempt {next(numbers)}")

    with pytest.raises(OSError, match="attempt 2"):
        retrying(retry_if_exception_type(OSError), stop=stop_after_attempt(3))(attempt)


def test_last_result_is_returned_at_the_limit() -> None:
    numbers = iter(range(9))
    condition = retry_if_result(lambda _: True)
    assert retrying(condition, stop=stop_after_attempt(3))(lambda: next(numbers)) == 2
