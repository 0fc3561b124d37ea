"""A hostile file has taken over the decoder: nothing outside is in its reach."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.audio.confinement import report, seccomp
from stream.audio.confinement.seccomp import CALLS, PROCESSORS, Instruction
from tests.support.confined import attempt, run_code

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Landlock and seccomp are Linux's")

ACTS = """{
    "read a file": lambda: open(arguments["secret"]).read(),
    "list a folder": lambda: os.listdir("/"),
    "look at a file": lambda: os.stat(arguments["secret"]),
    "create a file": lambda: os.open(arguments["new"], os.O_CREAT | os.O_WRONLY),
    "create a folder": lambda: os.mkdir(arguments["new"]),
    "truncate a file": lambda: os.truncate(arguments["secret"], 0),
    "rename a file": lambda: os.rename(arguments["secret"], arguments["new"]),
    "link a file": lambda: os.link(arguments["secret"], arguments["new"]),
    "make a symbolic link": lambda: os.symlink("/etc", arguments["new"]),
    "delete a file": lambda: os.unlink(arguments["secret"]),
    "change rights": lambda: os.chmod(arguments["secret"], 0o777),
    "change times": lambda: os.utime(arguments["secret"]),
    "write to the upload": lambda: os.write(0, b"x"),
    "truncate the upload": lambda: os.ftruncate(0, 0),
    "read the server's environment": lambda: open(f"/proc/{arguments['server']}/environ").read(),
    "read its own environment": lambda: open("/proc/self/environ").read(),
    "connect by TCP": lambda: socket.create_connection(("127.0.0.1", arguments["port"]), 1),
    "send by UDP": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "make a Unix socket": lambda: socket.socket(socket.AF_UNIX),
    "make a pair of sockets": lambda: socket.socketpair(),
    "run a program": lambda: os.execv("/bin/true", ["true"]),
    "fork": lambda: os.fork(),
    "signal the server": lambda: os.kill(arguments["server"], signal.SIGTERM),
    "signal everybody": lambda: os.kill(-1, signal.SIGTERM),
    "signal the parent": lambda: os.kill(os.getppid() or 1, 0),
    "trace the server": lambda: call(101, 16, arguments["server"], 0, 0),
    "read the server's memory": lambda: call(310, arguments["server"], 0, 0, 0, 0, 0),
    "write the server's memory": lambda: call(311, arguments["server"], 0, 0, 0, 0, 0),
    "open the server's process": lambda: call(434, arguments["server"], 0),
    "watch files": lambda: call(253),
    "make a file in memory": lambda: os.memfd_create("x"),
    "run code from memory": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
    "use io_uring": lambda: call(425, 1, 0),
    "load a BPF program": lambda: call(321, 0, 0, 0),
    "use keys of the kernel": lambda: call(250, 0, 0),
    "make a namespace": lambda: call(272, 0x10000000),
    "mount": lambda: call(165, b"x", b"/", b"tmpfs", 0, 0),
    "raise a limit": lambda: call(302, 0, 7, (ctypes.c_ulong * 2)(99, 99), 0),
    "become root": lambda: os.setuid(0),
    "set owner of signals": lambda: fcntl.fcntl(0, 8, arguments["server"]),
    "call of the 32-bit interface": lambda: call(0x40000000 + 39),
}"""
"""Name of a forbidden act → how it is done on x86-64."""

PERMITTED = """{
    "read the upload": lambda: os.read(0, 6),
    "start a thread": lambda: (lambda t: (t.start(), t.join()))(threading.Thread(target=int)),
    "sleep": lambda: time.sleep(0.001),
    "random numbers": lambda: len(os.urandom(8)),
    "open files": lambda: [
        n for n in range(256) if outcome(lambda: os.lseek(n, 0, 1)) != {"refused": "EBADF"}
    ],
}"""


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("mqtt password")
    return path


def missing() -> list[str]:
    return [level.name for level in report.measure() if not level.active]


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of calls on x86-64")
def test_a_decoder_that_was_taken_over_can_reach_nothing(secret: Path, listener: int) -> None:
    """Fault B13: it could truncate, rename and delete files, run programs, use Unix sockets, send
    signals, and read the MQTT password in the environment of the server.
    """
    arguments = {
        "secret": str(secret),
        "new": str(secret.with_name("new")),
        "server": os.getpid(),
        "port": listener,
    }
    # A call of the 32-bit interface ends the process, so it is tried alone.
    acts, _, last = ACTS.rpartition('    "call of')
    results = attempt(acts + "}", arguments)
    assert {name for name, result in results.items() if "refused" not in result} == set()
    assert len(results) > 35
    assert secret.read_text() == "mqtt password"
    assert not secret.with_name("new").exists()
    with pytest.raises(AssertionError, match=r"\(-31|\(159"):
        attempt('{    "call of' + last, arguments)


def test_a_confined_decoder_can_do_what_decoding_needs() -> None:
    results = attempt(PERMITTED, {})
    assert {name for name, result in results.items() if "done" not in result} == set()
    assert results["open files"]["done"] == "[0, 1, 2]"


def test_every_level_is_active_where_the_tests_run() -> None:
    """A machine without one of them would make the other tests pass for another reason."""
    assert missing() == []


LEVEL = """
import encodings.idna, errno, json, os, signal, socket, sys
from stream.audio.confinement import kernel, landlock, namespaces, seccomp
secret, server, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)

def outcome(act):
    try:
        return repr(act())
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))

def abstract():
    with socket.socket(socket.AF_UNIX) as unix:
        unix.connect("\\0emotide-test-" + sys.argv[2])

acts = {
    "read": lambda: open(secret).read(),
    "truncate": lambda: os.truncate(secret, 0),
    "rename": lambda: os.rename(secret, secret + "2"),
    "delete": lambda: os.unlink(secret),
    "run": lambda: os.execv("/bin/true", ["true"]),
    "connect": lambda: socket.create_connection(("127.0.0.1", port), 1),
    "abstract": abstract,
    "signal": lambda: os.kill(server, 0),
}
"""


def only(level: str, secret: Path, port: int) -> dict[str, str]:
    """Return what one level alone lets the acts of `LEVEL` do."""
    code = f"{LEVEL}\n{level}\nprint(json.dumps({{n: outcome(a) for n, a in acts.items()}}))"
    output = run_code(code, str(secret), str(os.getpid()), str(port))
    result: dict[str, str] = json.loads(output)
    return result


@pytest.fixture
def abstract_listener() -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0emotide-test-{os.getpid()}")
        server.listen()
        yield


@pytest.mark.usefixtures("abstract_listener")
def test_landlock_alone_refuses_files_tcp_abstract_sockets_and_signals(
    secret: Path, listener: int
) -> None:
    results = only("landlock.restrict()", secret, listener)
    assert results == {
        "read": "EACCES",
        "truncate": "EACCES",
        "rename": "EACCES",
        "delete": "EACCES",
        "run": "EACCES",
        "connect": "EACCES",
        "abstract": "EPERM",
        "signal": "EPERM",
    }


@pytest.mark.usefixtures("abstract_listener")
def test_seccomp_alone_refuses_every_act(secret: Path, listener: int) -> None:
    results = only("seccomp.install()", secret, listener)
    assert set(results.values()) == {"EPERM"}


@pytest.mark.usefixtures("abstract_listener")
def test_the_namespaces_alone_hide_the_network_and_other_processes(
    secret: Path, listener: int
) -> None:
    """The isolation from the network holds without a filter of system calls, too."""
    code = "namespaces.separate(); acts['id'] = os.getpid"
    acts = "{n: a for n, a in acts.items() if n in ('connect', 'abstract', 'signal', 'id')}"
    results = only(f"{code}; acts = {acts}", secret, listener)
    assert results == {
        "connect": "ENETUNREACH",
        "abstract": "ECONNREFUSED",
        "signal": "ESRCH",
        "id": "1",
    }


def test_a_child_of_the_namespace_ends_as_its_parent_reports() -> None:
    code = """
import os, signal, sys
from stream.audio.confinement import namespaces
child = os.fork()
if child == 0:
    namespaces.separate()
    if sys.argv[1].startswith("-"):
        signal.signal(-int(sys.argv[1]), signal.SIG_DFL)
        os.kill(os.getpid(), -int(sys.argv[1]))
    os._exit(int(sys.argv[1]))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run_code(code, "0") == "0\n"
    assert run_code(code, "24") == "24\n"


def test_the_environment_of_a_decoder_has_no_setting_of_the_server() -> None:
    secrets = {"EMOTIDE_MQTT__PASSWORD": "x", "AWS_SECRET_ACCESS_KEY": "y", "PATH": "/bin"}
    assert set(report.environment(secrets)) == {
        "PATH",
        "PYTHONPATH",
        "OPENBLAS_NUM_THREADS",
        "OMP_NUM_THREADS",
    }


def test_the_memory_of_the_server_is_hidden_from_its_own_user() -> None:
    """Both processes belong to one user, as a server and what it starts do."""
    code = """
import os, sys
from stream.audio.confinement import kernel, protect_memory

def as_user():
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # as after exec

for protect in (False, True):
    ready, done = os.pipe(), os.pipe()
    server = os.fork()
    if server == 0:
        as_user()
        if protect:
            protect_memory()
        os.write(ready[1], b"x")
        os.read(done[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    child = os.fork()
    if child == 0:
        as_user()
        try:
            open(f"/proc/{server}/environ", "rb").read()
            open(f"/proc/{server}/maps", "rb").read()
            os._exit(0)
        except PermissionError:
            os._exit(13)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    os.write(done[1], b"x")
    os.waitpid(server, 0)
"""
    assert run_code(code).split() == ["0", "13"]


def test_levels_that_the_kernel_refuses_are_named_with_the_reason() -> None:
    """Inside a confined process nothing more is permitted, as in a strict container."""
    code = """
import json, resource
from dataclasses import asdict
from stream.audio.confinement import kernel, landlock, levels, namespaces, seccomp
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
seccomp.install()
print(json.dumps([asdict(level) for level in levels.confine(1 << 31, 10, levels.separate())]))
"""
    found = {level["name"]: level for level in json.loads(run_code(code))}
    for name in ("PID namespace", "network namespace", "Landlock", "seccomp"):
        assert not found[name]["active"]
        assert "container" in found[name]["detail"], found[name]


def run_filter(filter_: list[Instruction], number: int, *arguments: int, arch: int) -> int:
    """Return what a filter decides on a call, as the kernel would evaluate it."""
    words = {0: number, 4: arch}
    for index in range(6):
        value = arguments[index] if index < len(arguments) else 0
        words[16 + 8 * index], words[20 + 8 * index] = value & 0xFFFFFFFF, value >> 32
    loaded, at = 0, 0
    while True:
        code, then, otherwise, value = filter_[at]
        at += 1
        if code == 0x06:
            return value
        if code == 0x20:
            loaded = words[value]
            continue
        taken = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}[code]
        at += then if taken else otherwise


ALLOWED, KILLED, REFUSED, UNKNOWN = 0x7FFF0000, 0x80000000, 0x50001, 0x50026


@pytest.mark.parametrize("machine", PROCESSORS)
def test_the_filter_allows_the_listed_calls_only(machine: str) -> None:
    processor = PROCESSORS[machine]
    filter_ = seccomp.program(machine, 77)
    arch = processor.architecture
    numbers = {name: n[processor.column] for name, n in CALLS.items()}
    known = [number for number in numbers.values() if number is not None]
    assert len(known) == len(set(known))
    limited = {*seccomp.conditions(77), "clone3"}
    for name, number in numbers.items():
        if number is not None and name not in limited:
            assert run_filter(filter_, number, arch=arch) == ALLOWED, name
    for number in set(range(600)) - set(known):
        assert run_filter(filter_, number, arch=arch) == REFUSED, number
    assert run_filter(filter_, known[0], arch=arch ^ 1) == KILLED
    assert run_filter(filter_, 0x40000000 | known[0], arch=arch) == KILLED
    assert run_filter(filter_, 435, arch=arch) == UNKNOWN

    def decide(name: str, *arguments: int) -> int:
        number = numbers[name]
        assert number is not None
        return run_filter(filter_, number, *arguments, arch=arch)

    assert decide("mmap", 0, 4096, 0b011) == ALLOWED
    assert decide("mmap", 0, 4096, 0b111) == REFUSED
    assert decide("mprotect", 0, 4096, 0b101) == REFUSED
    assert decide("clone", 0x3D0F00) == ALLOWED
    assert decide("clone", 0x11) == REFUSED
    assert decide("clone", 0x10000 | 0x40000000) == REFUSED
    assert decide("prctl", 15) == ALLOWED
    assert decide("prctl", 4) == REFUSED
    assert decide("tgkill", 77) == ALLOWED
    assert decide("tgkill", 1) == REFUSED
    assert decide("prlimit64", 0, 7, 0) == ALLOWED
    assert decide("prlimit64", 0, 7, 1 << 32) == REFUSED
    assert decide("prlimit64", 5, 7, 0) == REFUSED


def test_an_unknown_processor_is_a_missing_level() -> None:
    with pytest.raises(OSError, match="no filter for the processor riscv64"):
        seccomp.program("riscv64", 1)
