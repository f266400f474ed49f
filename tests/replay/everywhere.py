# ruff: noqa: B007, PTH101, PTH102, PTH103, PTH104, PTH105, PTH107, PTH109, PTH110, PTH111, PTH115, PTH116, PTH119, PTH202, PTH207, PTH208, PTH211
"""A script that writes wherever it can, and prints what it finds again. Run by `test_everywhere`: as it is, and replayed."""

import csv
import glob
import gzip
import json
import logging.handlers
import mmap
import multiprocessing
import os
import pickle
import shelve
import shutil
import socket
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

import flor

PROJECT = sys.argv[1]  # its folder, by its absolute path
HOME = Path.home()
PLACES = ("out", f"{PROJECT}/out", "../data", str(HOME), "data/many")


def read(path):
    return Path(path).read_text()


def appends(turn):
    names = ("data/x.csv", f"{PROJECT}/data/log.txt", "../data/beside.txt", str(HOME / "dot.cfg"))
    for name in names:
        with open(name, "a") as file:
            file.write(f"+{turn}")
    return [read(Path(name)) for name in (*names, os.path.expanduser("~/dot.cfg"), f"{PROJECT}/../data/beside.txt")]


def updates(turn):
    with open(f"{PROJECT}/data/bytes", "r+b") as file:
        file.seek(2)
        file.write(b"%d" % turn)
        file.truncate(9)
    number = os.open("data/bytes", os.O_RDWR)
    os.pwrite(number, b"zz", 4)
    os.ftruncate(number, 8)
    os.close(number)
    with open("data/bytes", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[0:1] = b"m"
    np.memmap(f"{PROJECT}/data/bytes", dtype="u1", mode="r+")[1] = 65 + turn
    return open("data/bytes", "rb").read()


def libraries(turn):
    found = []
    array, frame = np.arange(4.0) + turn, pd.DataFrame({"a": [turn, 1.5]})
    for place in PLACES:
        os.makedirs(place, exist_ok=True)
        torch.save({"t": torch.full((3,), turn)}, f"{place}/m.pt")
        torch.from_file(f"{place}/f.bin", shared=True, size=4).fill_(turn)
        np.save(f"{place}/a", array), np.savez(f"{place}/z", a=array), np.savetxt(f"{place}/t.txt", array)
        array.tofile(f"{place}/raw")
        frame.to_csv(f"{place}/p.csv", mode="a"), frame.to_pickle(f"{place}/p.pkl"), frame.to_csv(f"{place}/p.csv.gz")
        Image.fromarray(np.full((4, 4, 3), turn, np.uint8)).save(f"{place}/i.png")
        found += [
            torch.load(f"{place}/m.pt")["t"].sum().item(), torch.load(f"{place}/m.pt", mmap=True)["t"].sum().item(),
            torch.from_file(f"{place}/f.bin", size=4).sum().item(), np.load(f"{place}/a.npy", mmap_mode="r").sum(),
            np.load(f"{place}/z.npz")["a"].sum(), np.loadtxt(f"{place}/t.txt").sum(), np.fromfile(f"{place}/raw").sum(),
            len(pd.read_csv(f"{place}/p.csv")), len(pd.read_pickle(f"{place}/p.pkl")), os.path.getsize(f"{place}/i.png"),
            len(pd.read_csv(f"{place}/p.csv.gz")), Image.open(f"{place}/i.png").getpixel((0, 0)),
        ]  # fmt: skip
    return [float(value) if not isinstance(value, tuple) else value for value in found]


def databases(turn):
    found = []
    for name in ("out/q.db", f"{PROJECT}/data/user.db", f"file:{PROJECT}/data/user.db?mode=rw"):
        base = sqlite3.connect(name, uri=name.startswith("file:"))
        base.execute("create table if not exists t (x)")
        base.execute("insert into t values (?)", (turn,))
        base.commit()
        found.append(base.execute("select count(*) from t").fetchone()[0])
        base.close()
    with shelve.open(f"{PROJECT}/out/shelf") as kept:
        kept[str(turn)] = turn
        return [*found, sorted(kept)]


def archives(turn):
    with zipfile.ZipFile(f"{PROJECT}/out/z.zip", "a") as archive:
        archive.writestr(f"{turn}", "z")
    with tarfile.open(f"{PROJECT}/out/t.tgz", "w:gz") as archive:
        archive.add("data/deep")
        archive.add(f"{PROJECT}/data/x.csv", "x")
    with tarfile.open("out/t.tgz") as archive:
        kinds = sorted((member.name, member.type) for member in archive)
        archive.extractall("out/untar", filter="data")
    with gzip.open(f"{PROJECT}/out/c.gz", "wt") as file:
        file.write("c")
    shutil.make_archive(f"{PROJECT}/out/all", "zip", f"{PROJECT}/data/deep")
    return (
        len(zipfile.ZipFile("out/z.zip").namelist()),
        kinds,
        gzip.open("out/c.gz", "rt").read(),
        os.listdir("out/untar"),
    )


def logs(turn):
    log = logging.getLogger(str(turn))
    log.propagate = False
    handlers = [
        logging.FileHandler(f"{PROJECT}/data/log.txt"),
        logging.handlers.RotatingFileHandler(f"{PROJECT}/out/r.log", maxBytes=20, backupCount=2),
    ]
    for handler in handlers:
        log.addHandler(handler)
    for line in range(5):
        log.warning("line %d", line)
    for handler in handlers:
        handler.close()
    with open("out/rows.csv", "a", newline="") as file:
        csv.writer(file).writerow([turn])
    known = json.loads(read(f"{PROJECT}/conf.json"))
    known["n"] += 1
    Path("conf.json").write_text(json.dumps(known))
    return read("data/log.txt"), sorted(glob.glob("out/*.log*")), read("out/rows.csv"), known


def names(turn):
    os.makedirs(f"{PROJECT}/a/b{turn}"), os.mkdir(f"a/c{turn}"), os.rename(f"a/c{turn}", f"{PROJECT}/a/d{turn}")
    Path("a/f").write_text("f")
    os.replace("a/f", f"{PROJECT}/a/g{turn}"), os.link(f"a/g{turn}", f"a/h{turn}"), os.symlink(f"g{turn}", f"a/t{turn}")
    (
        os.symlink(f"{PROJECT}/a/g{turn}", f"a/s{turn}"),
        os.chmod("data/many/1", 0o640),
        os.utime("data/many/2", (5e8, 5e8)),
    )
    path = Path(PROJECT, "p")
    path.mkdir(exist_ok=True)
    (path / "q").write_text("q"), (path / "q").rename(path / f"r{turn}"), (path / f"l{turn}").symlink_to(path / "x")
    shutil.copy("data/x.csv", f"{PROJECT}/out/copy.csv"), shutil.copytree("data/deep", f"{PROJECT}/out/tree{turn}")
    shutil.move(f"out/tree{turn}", f"{PROJECT}/data/tree{turn}"), os.truncate(f"a/h{turn}", 0)
    if turn == 0:
        (
            shutil.rmtree(f"{PROJECT}/data/gone"),
            os.remove("data/del"),
            Path("../data/del").unlink(),
            os.remove(HOME / "del"),
        )
    walked = [
        (os.path.relpath(top, PROJECT), sorted(below), sorted(files)) for top, below, files in os.walk(f"{PROJECT}/a")
    ]
    exist = [os.path.exists(name) for name in ("data/gone", f"{PROJECT}/data/del", "../data/del", HOME / "del", "a/s0")]
    lists = [sorted(os.listdir(name)) for name in ("data", "../data", HOME, PROJECT + "/p")]
    kinds = [(entry.name, entry.is_file(), entry.is_symlink()) for entry in os.scandir("data/many")]
    status = os.stat(f"{PROJECT}/data/many/1").st_mode, os.stat("data/many/2").st_mtime
    return sorted(walked), exist, lists, sorted(kinds), status, os.readlink(f"a/t{turn}")


def temporaries(turn):
    with tempfile.NamedTemporaryFile(dir=PROJECT, delete=False) as file:
        file.write(b"t")
    os.replace(file.name, f"{PROJECT}/final")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "f").write_text("f")
        shutil.move(f"{folder}/f", f"{PROJECT}/moved{turn}")
    with open(f"/dev/shm/flor-everywhere-{os.getpid()}", "w") as file:
        file.write("shm")
    os.remove(file.name)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"out/sock{turn}")
    pickle.dump(turn, open(f"{PROJECT}/out/pickle", "wb"))
    with open(os.open(f"{PROJECT}/out/fd", os.O_CREAT | os.O_WRONLY | os.O_APPEND), "w") as file:
        file.write("o")
    return read("final"), read(f"moved{turn}"), os.path.exists(f"out/sock{turn}"), read("out/fd")


def programs(turn):
    codes = [
        os.system(f"mkdir -p x{turn}; cp data/x.csv x{turn}/b; echo {turn} >> kids.txt; echo {turn} >> data/many/3"),
        os.system(f"echo {turn} >> {PROJECT}/data/many/4; mkdir -p {PROJECT}/y/{turn} && touch {PROJECT}/y/{turn}/t"),
        subprocess.run(["cp", f"{PROJECT}/data/x.csv", f"{HOME}/copy.csv"]).returncode,
        subprocess.run(["./script.sh", PROJECT]).returncode,
        os.system(f"rm -r {PROJECT}/data/kid; mv data/kidmv {PROJECT}/kidmvd") if turn == 0 else 0,
    ]
    code = f"open('{PROJECT}/data/many/5', 'a').write('p'); print(open('data/many/5').read())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    seen = [read(name) for name in ("kids.txt", "data/many/3", "data/many/4", HOME / "copy.csv", "data/sh.txt")]
    exist = [os.path.exists(name) for name in ("data/kid", "data/kidmv", "kidmvd", f"y/{turn}/t")]
    return codes, said.stdout, said.stderr, seen, exist, sorted(os.listdir(f"x{turn}"))


def pooled(number):
    with open(f"{PROJECT}/data/many/{number}", "a") as file:
        file.write("w")
    return read(f"data/many/{number}")


def processes(turn):
    found = []
    for method in ("fork", "spawn") if turn == 0 else ("fork",):
        with multiprocessing.get_context(method).Pool(1) as pool:
            found += pool.map(pooled, (6, 7))
    thread = threading.Thread(target=pooled, args=(8,))
    thread.start(), thread.join()
    if (child := os.fork()) == 0:
        pooled(9)
        os._exit(0)
    os.waitpid(child, 0)
    return found, read("data/many/8"), read("data/many/9")


def folders(turn):
    here, found = os.getcwd(), []
    for name in ("data/deep", f"{PROJECT}/data", "..", str(HOME)):
        os.chdir(name)
        Path(f"here{turn}").write_text("h")
        found.append((os.path.basename(os.getcwd()), sorted(os.listdir("."))))
        os.chdir(here)
    return found


WAYS = (appends, updates, libraries, databases, archives, logs, names, temporaries, programs, processes, folders)


class Optimizer:
    def zero_grad(self): ...
    def step(self): ...


optimizer = Optimizer()
if __name__ == "__main__":
    for epoch in range(2):
        for k in range(2):
            optimizer.zero_grad()
            optimizer.step()
            # probe: flor.log("k", k)
        for way in WAYS:
            try:
                found = repr(way(epoch))
            except Exception as error:
                found = f"{type(error).__name__}: {error}"
            print(epoch, way.__name__, found)
            flor.log(way.__name__, found)
