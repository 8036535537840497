"""Print the variables kept at SOURCE as one JSON object; the deploy program reads them through a pipe.

    configuration.py ssm:/PATH/                 every parameter below a path, named by its last part
    configuration.py secretsmanager:NAME        a secret that is a JSON object of strings

Values go to standard output alone, which has to be a pipe. What goes wrong is one line on standard error.
"""

import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

# `python -I` leaves the folder of the program out.
sys.path.insert(0, str(Path(__file__).absolute().parent))

import aws
from botocore.exceptions import BotoCoreError, ClientError

ATTEMPTS = 3


class NoConfigurationError(Exception):
    """There is none to print; the text says why and what to do, without any value."""


def from_parameters(path: str) -> dict[str, str]:
    """Every parameter below a path of the Parameter Store, decrypted."""
    pages = aws.client("ssm", attempts=ATTEMPTS).get_paginator("get_parameters_by_path")
    found: dict[str, str] = {}
    places: dict[str, str] = {}
    for page in pages.paginate(Path=path, Recursive=True, WithDecryption=True):
        for parameter in page["Parameters"]:
            name = parameter["Name"].rpartition("/")[2]
            if name in found:
                raise NoConfigurationError(
                    f"{places[name]} and {parameter['Name']} would both be {name}; remove one of them"
                )
            found[name], places[name] = parameter["Value"], parameter["Name"]
    if not found:
        raise NoConfigurationError(
            f"there is no parameter below {path} in {aws.region() or 'this region'}; "
            "put them there, or provision the host with another --configuration"
        )
    return found


def from_secret(name: str) -> dict[str, str]:
    """The members of a secret of Secrets Manager."""
    try:
        answer = aws.client("secretsmanager", attempts=ATTEMPTS).get_secret_value(SecretId=name)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        raise NoConfigurationError(
            f"there is no secret {name} in {aws.region() or 'this region'}; "
            "make it, or provision the host with another --configuration"
        ) from None
    try:
        found = json.loads(answer.get("SecretString") or "")
    except ValueError:
        found = None
    if not isinstance(found, dict) or not found:
        raise NoConfigurationError(f"the secret {name} is not a JSON object of strings; write it as one")
    if strange := [key for key, value in found.items() if not isinstance(value, str)]:
        raise NoConfigurationError(
            f"in the secret {name}, {', '.join(strange)} must be a string; put it in quotes"
        )
    return found


SOURCES: dict[str, Callable[[str], dict[str, str]]] = {"ssm": from_parameters, "secretsmanager": from_secret}


def main(arguments: list[str]) -> int:
    kind, _, place = (arguments[0] if len(arguments) == 1 else "").partition(":")
    if kind not in SOURCES or not place:
        print("configuration.py needs ssm:/path/ or secretsmanager:NAME", file=sys.stderr)
        return 1
    if not stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode):
        print("configuration.py writes secrets, and to a pipe only", file=sys.stderr)
        return 1
    aws.keep_aws_variables()
    try:
        print(json.dumps(SOURCES[kind](place)))
    except NoConfigurationError as error:
        print(error, file=sys.stderr)
    except (ClientError, BotoCoreError) as error:
        print(aws.explain(error), file=sys.stderr)
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
