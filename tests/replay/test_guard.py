"""Scripts that write everywhere, in real processes under the guard: the user's files stay as they are.

Each is run with the kernel's help and without. What a script wrote, it must read back itself: the
assertions on that are in the scripts.
"""

from __future__ import annotations

import os
import pickle
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from flor_runtime.replay.workspace import Workspace
from flor_runtime.versions import snapshot

RUN = """
import pickle, runpy, sys
place = pickle.loads(bytes.fromhex(sys.argv[1]))
for name in filter(None, sys.argv[3].split(",")):
    __import__(name)
from flor_runtime.replay import guard
held = guard.install(place, kernel=sys.argv[2] == "kernel")
assert held.kernel == (sys.argv[2] == "kernel"), "no Landlock here"
sys.argv[:] = [str(place.script)]
sys.path.insert(0, str(place.script.parent))
runpy.run_path(str(place.script), run_name="__main__")
"""

PROLOGUE = """
import os, shutil, sys
from pathlib import Path
USER = Path({user!r})
BASE = Path({base!r})
def check(ok, what=""):
    assert ok, what
"""


def state(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Path, mode, time and content of everything below."""
    found = {}
    for path in sorted(folder.rglob("*")):
        info = path.lstat()
        content = b""
        if stat.S_ISLNK(info.st_mode):
            content = os.fsencode(path.readlink())
        elif stat.S_ISREG(info.st_mode):
            content = path.read_bytes()
        found[str(path)] = (info.st_mode, info.st_mtime_ns, content)
    return found


@pytest.fixture
def user(tmp_path: Path) -> Path:
    user = tmp_path / "parent" / "project"
    (user / "data/many/deep").mkdir(parents=True)
    (user / "out").mkdir()
    (user / "empty").mkdir()
    (user / "data/x.csv").write_text("a,b\n1,2\n")
    (user / "data/many/deep/d.txt").write_text("deep\n")
    for number in range(210):
        (user / f"data/many/{number}.txt").write_text(str(number))
    (user / "out/old.txt").write_text("old\n")
    (user / "tracked.txt").write_text("tracked\n")
    (user / "abs_link").symlink_to(tmp_path / "parent/shared")
    (tmp_path / "parent/shared").mkdir()
    (tmp_path / "parent/shared/s.txt").write_text("shared\n")
    (user / "train.py").write_text("")
    (user / ".gitignore").write_text("data/\nout/\nempty/\nabs_link\n")
    subprocess.run(["git", "init", "-q"], cwd=user, check=True)
    subprocess.run(["git", "add", "train.py", "tracked.txt", ".gitignore"], cwd=user, check=True)
    return user


@pytest.fixture(params=["kernel", "python"])
def replay(request: pytest.FixtureRequest, user: Path, tmp_path: Path) -> Callable[..., Workspace]:
    """Run a script as an old version, and compare the user's folder and what is beside it."""

    def run(code: str, *, preload: str = "", good: bool = True, error: str = "") -> Workspace:
        text = PROLOGUE.format(user=str(user), base=str(tmp_path)) + textwrap.dedent(code)
        taken = snapshot(user / "train.py", {user / "train.py": text.encode()}, "2" * 32, home=tmp_path / "home")
        assert taken.vid and taken.repo
        place = Workspace.create(
            taken.repo, taken.vid, user, taken.script, user, tmp_path / "home/replays/1/worker/work", {}
        )
        before = state(tmp_path / "parent")
        done = subprocess.run(
            [sys.executable, "-c", RUN, pickle.dumps(place).hex(), request.param, preload],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert state(tmp_path / "parent") == before
        assert (done.returncode == 0) is good, done.stderr
        assert error in done.stderr
        return place

    return run


def test_open_in_every_mode(replay: Callable[..., Workspace]) -> None:
    place = replay(
        """
        for folder in ("", str(USER) + "/", "../project/", str(USER) + "/data/../"):
            for name in ("out/old.txt", "data/many/7.txt", "tracked.txt", "abs_link/s.txt", "../shared/s.txt"):
                old = open(folder + name).read()
                with open(folder + name, "a") as file: file.write("+")
                check(open(folder + name).read() == old + "+", name)
                with open(folder + name, "r+") as file: file.write("*")
                check(open(folder + name).read() == ("*" + old + "+")[:1] + (old + "+")[1:], name)
                with open(folder + name, "w") as file: file.write(old)
                check(open(folder + name).read() == old, name)
        for name in ("new.txt", "out/new.txt", "data/many/new.txt", "../beside.txt", "../shared/new.txt",
                     "../../above.txt", "abs_link/new2.txt"):
            with open(name, "x") as file: file.write("new")
            check(open(name).read() == "new" and (USER / name).read_text() == "new", name)
            try: open(name, "x")
            except FileExistsError as error: check(error.filename == name)
            else: check(False)
        try: open("data/x.csv", "x")
        except FileExistsError: pass
        else: check(False)
        for name in ("none/x", str(USER / "none/x"), "data/x.csv/y"):
            try: open(name, "w")
            except (FileNotFoundError, NotADirectoryError) as error: check(error.filename == name, error)
            else: check(False, name)
        """
    )
    assert (place.cwd / "new.txt").read_text() == "new"


def test_open_is_still_open(replay: Callable[..., Workspace]) -> None:
    replay(
        """
        import builtins, inspect, io, pickle
        check(str(inspect.signature(open)) == "(file, mode='r', buffering=-1, encoding=None, errors=None, "
              "newline=None, closefd=True, opener=None)", inspect.signature(open))
        check(open is io.open is builtins.open and open.__name__ == "open")
        class A: method = open
        check(A().method("data/x.csv").read() == "a,b\\n1,2\\n")
        with open(str(USER / "data/x.csv"), "w") as file:
            check(file.name == str(USER / "data/x.csv"))
        with open(b"out/b.bin", "wb", 0) as file:
            check(type(file) is io.FileIO and file.name == b"out/b.bin"); file.write(b"1")
        with open(Path("out/p.txt"), "w", encoding="utf-16", newline="\\r\\n") as file: file.write("\\n")
        check(Path("out/p.txt").read_bytes() == "\\r\\n".encode("utf-16"))
        number = os.open("out/fd.txt", os.O_RDWR | os.O_CREAT)
        with open(number, "w", closefd=False) as file: check(file.name == number); file.write("fd")
        os.close(number)
        check(open("out/fd.txt").read() == "fd")
        with open("out/o.txt", "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file: file.write("o")
        check(os.stat("out/o.txt").st_mode & 0o777 == 0o600)
        for bad, kind in ((None, TypeError), (1.5, TypeError), ("a\\0b", ValueError), ("", FileNotFoundError)):
            try: open(bad)
            except kind: pass
            else: check(False, bad)
        try: open("data/x.csv", "q")
        except ValueError: pass
        else: check(False)
        try: open("data", "w")
        except IsADirectoryError: pass
        else: check(False)
        """
    )


def test_names_of_files(replay: Callable[..., Workspace]) -> None:
    replay(
        """
        import tempfile
        os.replace("out/old.txt", "out/moved.txt")
        check(not os.path.exists("out/old.txt") and open("out/moved.txt").read() == "old\\n")
        check(not (USER / "out/old.txt").exists() and (USER / "out/moved.txt").exists())
        with open("out/moved.txt", "a") as file: file.write("more")
        check((USER / "out/moved.txt").read_text() == "old\\nmore")
        os.rename(USER / "data/x.csv", USER / "data/y.csv")
        check(sorted(os.listdir("data")) == ["many", "y.csv"])
        os.rename("data/many", "data/few")
        check(open("data/few/deep/d.txt").read() == "deep\\n" and not os.path.exists("data/many"))
        open("data/few/deep/d.txt", "w").write("changed")
        check(open(USER / "data/few/deep/d.txt").read() == "changed")
        os.remove(USER / "abs_link/s.txt")
        check(not os.path.exists("abs_link/s.txt"))
        os.makedirs(USER / "a/b/c"); os.makedirs("a/b/d"); os.makedirs(b"a/b/e", exist_ok=True)
        check(sorted(os.listdir(USER / "a/b")) == ["c", "d", "e"])
        try: os.mkdir(USER / "out")
        except FileExistsError as error: check(error.filename == str(USER / "out"), error.filename)
        else: check(False)
        os.rmdir("empty"); check(not (USER / "empty").exists())
        try: os.rmdir(USER / "data/few")
        except OSError: pass
        else: check(False)
        try: os.remove("data/few/deep")
        except IsADirectoryError: pass
        else: check(False)
        os.link("data/few/9.txt", "hard.txt"); os.symlink("data/few/8.txt", "soft.txt")
        open("hard.txt", "w").write("h"); open("soft.txt", "w").write("s")
        check(open("data/few/9.txt").read() == "h" and open("data/few/8.txt").read() == "s")
        os.symlink(USER / "tracked.txt", "soft2.txt"); open("soft2.txt", "a").write("s")
        check(open("soft2.txt").read() == "tracked\\ns")
        os.truncate("data/few/100.txt", 1); check(open("data/few/100.txt").read() == "1")
        os.chmod(USER / "data/few/101.txt", 0o600); os.utime("data/few/102.txt", (1, 1))
        check(os.stat("data/few/101.txt").st_mode & 0o777 == 0o600)
        check(os.stat(USER / "data/few/102.txt").st_mtime == 1)
        with tempfile.NamedTemporaryFile(dir=USER / "out", delete=False) as file: file.write(b"t")
        os.replace(file.name, "out/final"); check(open("out/final", "rb").read() == b"t")
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "f").write_text("f"); shutil.move(Path(folder, "f"), "out/f")
        check(Path("out/f").read_text() == "f")
        Path("/tmp/flor-guard-test.txt").write_text("t")
        check(Path("/tmp/flor-guard-test.txt").read_text() == "t")
        """
    )
    assert not Path("/tmp/flor-guard-test.txt").exists()


def test_shutil_and_pathlib(replay: Callable[..., Workspace]) -> None:
    replay(
        """
        shutil.copy("data/x.csv", USER / "out/old.txt"); check(open("out/old.txt").read() == "a,b\\n1,2\\n")
        shutil.copy2(USER / "data/x.csv", "out"); shutil.copyfile("data/x.csv", "data/z.csv")
        shutil.copytree("data", USER / "copy"); check(len(os.listdir("copy/many")) == 211)
        check(not os.path.islink("copy/many/7.txt") and open("copy/many/7.txt").read() == "7")
        shutil.move("copy/many", "moved"); check(open(USER / "moved/deep/d.txt").read() == "deep\\n")
        shutil.rmtree("moved"); shutil.rmtree(USER / "data/many"); shutil.rmtree("out")
        check(not os.path.exists(USER / "out") and not os.path.exists("data/many"))
        check(sorted(os.listdir(USER / "data")) == ["x.csv", "z.csv"])
        os.makedirs("out/again"); shutil.rmtree(USER / "abs_link", ignore_errors=True)
        path = USER / "p"; path.mkdir(); (path / "q").touch(); (path / "q").write_text("q")
        check(Path("p/q").read_bytes() == b"q"); (path / "q").rename(path / "r"); (path / "r").replace("p/s")
        check([entry.name for entry in path.iterdir()] == ["s"]); (path / "s").unlink(); path.rmdir()
        check(not Path("p").exists())
        archive = shutil.make_archive("out/arch", "zip", "data"); check(os.path.exists(archive))
        """
    )


def test_the_overlay_is_not_seen(replay: Callable[..., Workspace]) -> None:
    replay(
        """
        import glob
        for base in (Path("data"), USER / "data"):
            check(not base.is_symlink() and not (base / "many").is_symlink() and not (base / "x.csv").is_symlink())
            check(len(list(base.rglob("*.txt"))) == 211, base)
            check(len(glob.glob(str(base / "**/*.txt"), recursive=True)) == 211)
            check(sum(len(files) for _, _, files in os.walk(base)) == 212)
            check({entry.name: entry.is_dir(follow_symlinks=False) for entry in os.scandir(base)}
                  == {"many": True, "x.csv": False})
            check(all(entry.path == str(base / entry.name) for entry in os.scandir(base)))
        check(os.path.islink("abs_link") and os.readlink("abs_link") == str(BASE / "parent/shared"))
        check(os.path.realpath("data/x.csv") == os.path.join(os.getcwd(), "data/x.csv"))
        os.chdir("data/many"); open("here.txt", "w").write("h"); check(open("../many/here.txt").read() == "h")
        os.chdir(USER / "data"); open("there.txt", "w").write("t"); check((USER / "data/there.txt").exists())
        check(open("many/here.txt").read() == "h" and open("x.csv").read() == "a,b\\n1,2\\n")
        """
    )


def test_numpy_and_pandas(replay: Callable[..., Workspace]) -> None:
    code = """
        import numpy as np, pandas as pd
        array = np.arange(6.0).reshape(2, 3)
        for base in ("out/", str(USER) + "/out/", "../shared/"):
            np.save(base + "a", array); np.savez(base + "z", array=array); np.savez_compressed(base + "c", array=array)
            np.savetxt(base + "t.txt", array); array.tofile(base + "f.bin")
            check((np.load(base + "a.npy") == array).all() and (np.load(base + "z.npz")["array"] == array).all())
            check((np.loadtxt(base + "t.txt") == array).all() and (np.fromfile(base + "f.bin") == array.ravel()).all())
            mapped = np.memmap(base + "m.bin", dtype="f8", mode="w+", shape=(2, 3)); mapped[:] = array; mapped.flush()
            check((np.fromfile(base + "m.bin") == array.ravel()).all())
            frame = pd.DataFrame(array); frame.to_csv(base + "p.csv"); frame.to_pickle(base + "p.pkl")
            frame.to_json(base + "p.json"); frame.to_csv(base + "p.csv.gz")
            check((pd.read_csv(base + "p.csv", index_col=0).values == array).all())
            check((pd.read_pickle(base + "p.pkl").values == array).all())
            check((pd.read_csv(base + "p.csv.gz", index_col=0).values == array).all())
        frame.to_csv("data/x.csv", index=False); check(open(USER / "data/x.csv").read() != "a,b\\n1,2\\n")
        """
    replay(code)


def test_numpy_that_was_loaded_before(replay: Callable[..., Workspace]) -> None:
    replay(
        """
        import numpy as np
        np.savetxt(USER / "out/t.txt", np.zeros(2)); check((np.loadtxt("out/t.txt") == 0).all())
        np.savez(USER / "out/t", a=1); check(np.load("out/t.npz")["a"] == 1)
        """,
        preload="numpy,tempfile,zipfile,gzip,logging",
    )


@pytest.mark.parametrize("preload", ["", "torch"])
def test_torch(replay: Callable[..., Workspace], preload: str) -> None:
    replay(
        """
        import torch
        for base in ("out/", str(USER) + "/", "../shared/", "data/many/"):
            torch.save({"w": torch.ones(3)}, base + "m.pt"); check(torch.load(base + "m.pt")["w"].sum() == 3)
            torch.save(torch.zeros(1), Path(base) / "old.txt", _use_new_zipfile_serialization=False)
            check(torch.load(base + "old.txt").sum() == 0)
            torch.save(torch.ones(2), base + "m.pt"); check(torch.load(Path(base, "m.pt")).sum() == 2)
            torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), base + "j.pt"); torch.jit.load(base + "j.pt")
        torch.save(1, f"data/many/7.txt"); check(torch.load("data/many/7.txt") == 1)
        """,
        preload=preload,
    )


def test_loader_workers_write_and_read(replay: Callable[..., Workspace]) -> None:
    replay(
        """
        import torch
        class Data(torch.utils.data.Dataset):
            def __len__(self): return 4
            def __getitem__(self, index):
                path = USER / f"data/many/{index}.txt"
                value = int(path.read_text()); path.write_text("seen"); (USER / f"cache_{index}").write_text("c")
                return value
        if __name__ == "__main__":
            loader = torch.utils.data.DataLoader(Data(), num_workers=2)
            check(sum(int(x) for x in loader) == 6)
            check(all(Path(f"data/many/{i}.txt").read_text() == "seen" for i in range(4)))
            check(all(Path(f"cache_{i}").exists() for i in range(4)))
        """
    )


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_write_and_read(replay: Callable[..., Workspace], method: str) -> None:
    replay(
        f"""
        import multiprocessing
        def work(index):
            path = USER / f"data/many/{{index}}.txt"
            value = int(path.read_text()); path.write_text("seen")
            with open(f"out/cache_{{index}}", "w") as file: file.write("c")
            return value
        if __name__ == "__main__":
            with multiprocessing.get_context("{method}").Pool(2) as pool:
                check(pool.map(work, range(4)) == [0, 1, 2, 3])
            check(all(Path(f"data/many/{{i}}.txt").read_text() == "seen" for i in range(4)))
            check(all((USER / f"out/cache_{{i}}").exists() for i in range(4)))
        """
    )


def test_databases_logs_and_trackers(replay: Callable[..., Workspace]) -> None:
    replay(
        """
        import logging, logging.handlers, sqlite3, shelve, json, csv
        for path in ("out/a.db", USER / "out/b.db", f"file:{USER}/out/c.db?mode=rwc"):
            base = sqlite3.connect(path, uri=str(path).startswith("file:"))
            base.execute("create table t (x)"); base.execute("insert into t values (1)"); base.commit(); base.close()
        check(sqlite3.connect("out/b.db").execute("select x from t").fetchall() == [(1,)])
        sqlite3.connect(":memory:").execute("create table t (x)")
        handler = logging.handlers.RotatingFileHandler(USER / "out/train.log", maxBytes=50, backupCount=2)
        log = logging.getLogger(); log.addHandler(handler)
        for i in range(9): log.warning("line %d", i)
        check(os.path.exists("out/train.log.1"))
        check(os.environ["WANDB_MODE"] == "disabled" and "mlruns" in os.environ["MLFLOW_TRACKING_URI"])
        check(sys.dont_write_bytecode)
        """
    )


def test_other_programs(replay: Callable[..., Workspace], request: pytest.FixtureRequest) -> None:
    replay(
        """
        import subprocess
        check(subprocess.run("cat data/x.csv; mkdir -p out/sub && echo 1 > out/sub/f", shell=True,
                             capture_output=True, text=True).stdout == "a,b\\n1,2\\n")
        check(Path("out/sub/f").read_text() == "1\\n")
        subprocess.run("echo 2 > f2", shell=True, cwd=USER / "out/sub", check=True)
        check(Path("out/sub/f2").read_text() == "2\\n")
        subprocess.check_call([sys.executable, "-c", "open('by_child', 'w').write('c')"], cwd=USER)
        check((USER / "by_child").read_text() == "c")
        check(subprocess.run(["pwd"], cwd="/usr", capture_output=True).returncode == 0)
        """
    )


def test_other_programs_write_over_and_remove(replay: Callable[..., Workspace]) -> None:
    replay(
        """
        import subprocess
        def sh(command): return subprocess.run(command, shell=True).returncode or os.system(command)
        check(sh("echo + >> data/x.csv") == 0 and open(USER / "data/x.csv").read() == "a,b\\n1,2\\n+\\n+\\n")
        check(sh(f"cp {USER}/tracked.txt {USER}/data/many/7.txt") == 0 and open("data/many/7.txt").read() == "tracked\\n")
        check(sh(f"mkdir -p {USER}/made/deep && touch {USER}/made/deep/er") == 0 and os.path.exists("made/deep/er"))
        check(sh(f"rm -rf {USER}/out data/many/deep") == 0 and not (USER / "out").exists())
        check(subprocess.run(["mv", USER / "tracked.txt", "../moved.txt"]).returncode == 0)
        check(open("../moved.txt").read() == "tracked\\n" and not (USER / "tracked.txt").exists())
        check(subprocess.run(["dd", "if=/dev/zero", f"of={BASE}/zeros", "count=1"], stderr=-3).returncode == 0)
        check(os.stat(BASE / "zeros").st_size == 512)
        code = f"open('{USER}/data/many/9.txt', 'a').write('+'); print(open('data/many/9.txt').read())"
        for _ in range(2): text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        check(text.stdout == "9++\\n" and not text.stderr, text)
        check(open("data/many/9.txt").read() == "9++")
        check(os.WEXITSTATUS(os.waitpid(os.posix_spawn("/bin/cp", ["cp", "train.py", f"{USER}/t2"], os.environ), 0)[1]) == 0)
        check((USER / "t2").exists())
        """
    )


def test_other_programs_are_held_by_the_kernel(user: Path, tmp_path: Path) -> None:
    """Where a path comes out of a variable, only the kernel sees it."""
    code = f"""
import subprocess
import os
os.environ["U"] = "{user}"
for command in ("echo 1 > $U/data/x.csv", "rm -rf $U/out", "echo 1 > $U/new.txt", "git -C $U gc -q",
                "cp train.py $U/data/many/7.txt", "mv $U/tracked.txt /tmp/x"):
    assert subprocess.run(command, shell=True, stderr=subprocess.DEVNULL).returncode, command
assert subprocess.run("echo 1 > /dev/null && echo 1 > $TMPDIR/x", shell=True).returncode == 0
import ctypes
libc = ctypes.CDLL(None)
assert libc.unlink(b"{user}/tracked.txt") == -1
assert libc.open(b"{user}/tracked.txt", 1) == -1
assert libc.open(b"{user}/tracked.txt", 0) > 0
"""
    (user / "train.py").write_text(code)
    taken = snapshot(user / "train.py", {}, "3" * 32, home=tmp_path / "home")
    assert taken.vid and taken.repo
    place = Workspace.create(taken.repo, taken.vid, user, "train.py", user, tmp_path / "home/r/w/work", {})
    before = state(tmp_path / "parent")
    done = subprocess.run(
        [sys.executable, "-c", RUN, pickle.dumps(place).hex(), "kernel", ""],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    assert state(tmp_path / "parent") == before


@pytest.mark.parametrize(
    "code",
    [
        "import io; io.FileIO(USER / 'tracked.txt', 'w')",
        "import io; io.FileIO('data/x.csv', 'a')",
        "import posix; posix.open(str(USER / 'new'), os.O_WRONLY | os.O_CREAT)",
        "import posix; posix.unlink(str(USER / 'tracked.txt'))",
        "import posix; posix.rename(str(USER / 'tracked.txt'), str(USER / 't2'))",
        "import posix; posix.rename('train.py', str(USER / 't2'))",
        "import posix; posix.mkdir(str(USER / 'd'))",
        "import posix; posix.chmod('data/x.csv', 0o600)",
        "import posix; posix.unlink('tracked.txt', dir_fd=posix.open(str(USER), 0))",
    ],
)
def test_what_goes_round_the_overlay_is_refused(replay: Callable[..., Workspace], code: str) -> None:
    replay(code, good=False, error="PermissionError: a replay must not write to")


def test_links_and_sockets(replay: Callable[..., Workspace]) -> None:
    replay(
        """
        import socket
        os.symlink(USER / "data/new", "soft"); Path("soft").write_text("n"); check(open("data/new").read() == "n")
        os.symlink(USER / "data/x.csv", "soft2"); check(os.readlink("soft2") == str(USER / "data/x.csv"))
        check(open("soft2").read() == "a,b\\n1,2\\n" and Path("soft2").exists())
        shutil.copytree("data", "copied"); check(open("copied/new").read() == "n")
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind(str(USER / "out/sock")); server.listen(); client.connect(str(USER / "out/sock"))
        check(os.path.exists("out/sock"))
        """
    )


@pytest.mark.parametrize("end", ["pass", "os._exit(0)", "sys.exit(0)"])
def test_the_private_temporary_folder_goes(replay: Callable[..., Workspace], end: str, tmp_path: Path) -> None:
    replay(
        f"""
        import tempfile
        folder = tempfile.gettempdir(); Path(folder, "left").write_text("")
        (BASE / "home/replays/1/worker/scratch").write_text(folder)
        if os.fork() == 0: os._exit(0)
        os.wait(); check(os.path.exists(folder))
        {end}
        """
    )
    left = Path((tmp_path / "home/replays/1/worker/scratch").read_text())
    # where the kernel doesn't let the worker remove the empty folder (this project is in /tmp), the next one does
    assert not left.exists() or not list(left.iterdir())


def test_the_replays_own_folder_is_free(replay: Callable[..., Workspace], tmp_path: Path) -> None:
    replay("(BASE / 'home/replays/1/worker/outcome.json').write_text('{}')")
    assert (tmp_path / "home/replays/1/worker/outcome.json").exists()


def test_outside_of_the_project_too(replay: Callable[..., Workspace], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/e.txt").write_text("e")
    replay(
        """
        path = BASE / "elsewhere/e.txt"
        path.write_text("changed"); check(path.read_text() == "changed")
        (BASE / "elsewhere/new").mkdir(); check(sorted(os.listdir(BASE / "elsewhere")) == ["e.txt", "new"])
        os.makedirs(BASE / "not/there/yet"); check((BASE / "not/there/yet").is_dir())
        """
    )
    assert (tmp_path / "elsewhere/e.txt").read_text() == "e"
    assert not (tmp_path / "not").exists()
