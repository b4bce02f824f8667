"""The limit on the length of files, and its one way out."""

from tools.check_file_length import LIMIT, complaint, hand_written

LONG = "x = 1\n" * (LIMIT + 1)


def test_a_file_at_the_limit_is_accepted() -> None:
    assert complaint("a.py", "x = 1\n" * LIMIT) is None


def test_a_longer_file_is_refused_by_name_and_length() -> None:
    assert (complaint("a.py", LONG) or "").startswith("a.py has 301 lines")


def test_a_reason_at_the_top_excuses() -> None:
    assert complaint("a.py", "# Longer than 300 lines: one table, read as one.\n" + LONG) is None


def test_a_reason_further_down_does_not_excuse() -> None:
    assert complaint("a.py", LONG + "# Longer than 300 lines: too late.\n") is not None


def test_generated_vendored_and_binary_files_are_left_out() -> None:
    paths = [
        "nofx_grpc/v1/users_pb2.py",
        "buf/validate/validate_pb2.py",
        "protos/buf/x.proto",
        "tests/golden.db",
        "nofx_grpc/app.py",
    ]
    assert hand_written(paths) == ["nofx_grpc/app.py"]
