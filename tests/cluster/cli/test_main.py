"""The group of commands: help at once and for all of them, and how they end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner
from support.processes import free_port, lookalike

from lookalike.cluster.cli.main import main
from lookalike.errors import LookalikeError

HEAVY = {"ray", "tensorflow", "keras", "lance", "pyarrow", "numpy", "fastapi"}


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from _commands(child, (*path, name))


COMMANDS = list(_commands(main))


def test_main_has_the_commands_of_the_contract() -> None:
    of_store = {"store", "store upgrade", "store versions", "store switch", "store clean"}
    of_keys = {"keys", "keys add", "keys list", "keys remove"}
    contract = {"demo", "sample", "encode", "serve", "search", "status", "model", "model fit", *of_store, *of_keys}
    assert {" ".join(path) for path in COMMANDS} == {"", *contract}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_answers_without_a_heavy_import(path: tuple[str, ...]) -> None:
    """In a process of its own; what was imported is printed at its end."""
    code = f"""
import atexit, sys
atexit.register(lambda: print("heavy:", {HEAVY} & set(sys.modules)))
sys.argv = ["lookalike", *{path}, "--help"]
from lookalike.cluster.cli.main import main
main()
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "Usage: " in finished.stdout
    assert finished.stdout.endswith("heavy: set()\n")


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_describes_every_command_and_option(path: tuple[str, ...]) -> None:
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    assert command.help
    for parameter in command.params:
        assert isinstance(parameter, click.Argument) or (isinstance(parameter, click.Option) and parameter.help)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("nonsense",), 2, "No such command"),
        (("encode", "x"), 2, "--store"),
        (("encode", "x", "--store", "y", "--collection", "No Name"), 2, "--collection"),
        (("serve", "--store", "x", "--port", "99999"), 2, "65535"),
        (("search", "x", "--count", "0"), 2, "1<=x<=1000"),
        (("search", "x", "--url", "localhost:8000"), 2, "http://host:port"),
        (("serve", "--store", "x", "--anonymous-limit", "0"), 2, "RATE or RATE:BURST"),
        (("serve", "--store", "x", "--allowed-host", "http://shop"), 2, "without port"),
        (("serve", "--store", "x", "--host", "0.0.0.0"), 1, "--anonymous read, write or admin"),
        (("demo", "--host", "0.0.0.0"), 1, "--anonymous read, write or admin"),
        (("serve", "--store", "x", "--keys", "no such file"), 1, "no such file is not there"),
        (("keys", "add", "shop", "--file", "x", "--role", "none"), 2, "--role"),
        (("keys", "add", "no name", "--file", "x", "--role", "read"), 1, "is no name"),
        (("serve", "--store", "no such store"), 1, "make one with `lookalike encode`"),
        (("encode", "no such catalogue", "--store", "x"), 1, "no such catalogue"),
        (("search", "x", "--url", f"http://127.0.0.1:{free_port()}"), 1, "start one with `lookalike serve`"),
        (("status", "--url", f"http://127.0.0.1:{free_port()}"), 1, "start one with `lookalike serve`"),
        (("sample", "/dev/null/x"), 1, "/dev/null"),
    ],
)
def test_main_exit_status_tells_wrong_use_from_failed_work(arguments: tuple[str, ...], status: int, words: str) -> None:
    finished = lookalike(*arguments, check=False)
    assert (finished.returncode, words in finished.stderr) == (status, True), finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (LookalikeError("it broke"), "it broke"),
        (OSError("the disk is full"), "the disk is full"),
        (KeyboardInterrupt(), "stopped"),
    ],
)
def test_main_turns_errors_into_a_sentence_and_status_1(error: BaseException, sentence: str) -> None:
    @click.command()
    def fail() -> None:
        raise error

    result = CliRunner().invoke(type(main)("lookalike", commands={"fail": fail}), ["fail"])
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"Error: {sentence}\n")


def test_main_lets_a_fault_of_ours_through() -> None:
    @click.command()
    def fail() -> None:
        raise ZeroDivisionError

    result = CliRunner().invoke(type(main)("lookalike", commands={"fail": fail}), ["fail"])
    assert isinstance(result.exception, ZeroDivisionError)
