"""Round trips of torch state: a fresh process is played by building everything anew with other values."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from flor_runtime.errors import ReplayError
from flor_runtime.state import rng
from tests.runtime import states
from tests.runtime.states import Roots, problems, replayed

SGD, ADAM, ADAMW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW


class Net(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(width, 2)
        self.register_buffer("scale", torch.ones(1))
        self.seen = 0
        self.log: list[float] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += len(x)
        self.log.append(float(self.scale))
        return self.head(self.body(x)) * self.scale


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 3, bias=False)
        self.b = nn.Linear(3, 3, bias=False)
        self.b.weight = self.a.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x))


def steps(r: Roots, n: int = 3) -> float:
    """Train; the sum of all losses tells any difference."""
    total = 0.0
    for _ in range(n):
        x = torch.randn(8, 3)

        def closure(x: torch.Tensor = x) -> torch.Tensor:
            r["opt"].zero_grad()
            loss = r["net"](x).square().mean()
            loss.backward()
            return loss

        total += float(r["opt"].step(closure))
        if "sched" in r:
            if isinstance(r["sched"], torch.optim.lr_scheduler.ReduceLROnPlateau):
                r["sched"].step(total)
            else:
                r["sched"].step()
        if "ema" in r:
            r["ema"].update_parameters(r["net"])
    return total


def groups(net: nn.Module, lr: float) -> list[dict[str, Any]]:
    return [{"params": list(net.parameters())[:2], "lr": lr * 2}, {"params": list(net.parameters())[2:], "lr": lr}]


def lr_times(n: int) -> float:
    return 0.9**n


OPTIMIZERS: dict[str, Callable[[nn.Module], Any]] = {
    "sgd": lambda net: SGD(net.parameters(), 0.1),
    "momentum": lambda net: SGD(net.parameters(), 0.1, momentum=0.9, nesterov=True),
    "adam": lambda net: ADAM(net.parameters(), 0.01),
    "amsgrad": lambda net: ADAM(net.parameters(), 0.01, amsgrad=True, foreach=True),
    "adamw": lambda net: ADAMW(groups(net, 0.01), 0.01),
    "fused": lambda net: ADAMW(net.parameters(), 0.01, fused=True),
    "lbfgs": lambda net: torch.optim.LBFGS(net.parameters(), 0.1, max_iter=2),
    "rmsprop": lambda net: torch.optim.RMSprop(net.parameters(), 0.01, centered=True),
}  # fmt: skip
S = torch.optim.lr_scheduler
SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "step": lambda opt: S.StepLR(opt, 2),
    "one cycle": lambda opt: S.OneCycleLR(opt, 0.1, total_steps=40),
    "plateau": lambda opt: S.ReduceLROnPlateau(opt, patience=1),
    "lambda": lambda opt: S.LambdaLR(opt, lambda n: 0.9**n),
    "function": lambda opt: S.LambdaLR(opt, lr_times),
    "sequential": lambda opt: S.SequentialLR(opt, [S.ConstantLR(opt, 0.5, 2), S.CosineAnnealingLR(opt, 20)], [2]),
    "cosine restarts": lambda opt: S.CosineAnnealingWarmRestarts(opt, 3),
}  # fmt: skip


def continues(
    make: Callable[[], Roots], block: Callable[[Roots], Any] = steps, go_on: Callable[[Roots], Any] = steps
) -> Roots:
    """The restored state goes on bit for bit as the recorded one, with all identities kept."""
    torch.manual_seed(1)
    recorded = make()
    anchors = states.survey(recorded)
    block(recorded)
    ambient = rng.capture()
    full = states.capture(recorded, anchors)
    assert [] == full.problems
    graph, blobs = states.stored(full)
    torch.manual_seed(1)
    again = make()
    live = {
        f"{key}.{name}": p
        for key, obj in again.items()
        if isinstance(obj, nn.Module)
        for name, p in obj.named_parameters()
    }
    pointers = {name: p.data_ptr() for name, p in live.items()}
    again.update(states.restore(graph, blobs, again))
    for key, obj in again.items():
        if isinstance(obj, nn.Module):
            assert all(live[f"{key}.{name}"] is p for name, p in obj.named_parameters() if f"{key}.{name}" in live)
            assert all(
                pointers[f"{key}.{name}"] == p.data_ptr()
                for name, p in obj.named_parameters()
                if f"{key}.{name}" in live
            )
    for obj in (recorded, again):
        rng.restore(ambient)
        obj["result"] = go_on(obj)
    assert recorded["result"] == again["result"]
    for key, obj in recorded.items():
        if hasattr(obj, "state_dict"):
            assert equal(obj.state_dict(), again[key].state_dict()), key
    return again


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.nan_to_num(7), b.nan_to_num(7))
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b) or (callable(a) and callable(b))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name: str) -> None:
    def make() -> Roots:
        net = Net()
        return {"net": net, "opt": OPTIMIZERS[name](net)}

    again = continues(make)
    assert again["opt"].param_groups[0]["params"][0] is next(iter(again["net"].parameters()))
    continues(lambda: (r := make(), steps(r))[0])  # the state of the optimizer is there already


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers(name: str) -> None:
    def make() -> Roots:
        net = Net()
        opt = SGD(net.parameters(), 0.1, momentum=0.9)
        return {"net": net, "opt": opt, "sched": SCHEDULERS[name](opt)}

    again = continues(make)
    assert again["sched"].optimizer is again["opt"] if hasattr(again["sched"], "optimizer") else True


def test_ema_scaler_and_a_rate_set_by_hand() -> None:
    def make() -> Roots:
        net = Net()
        ema = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
        return {"net": net, "opt": ADAM(net.parameters(), 0.01), "ema": ema, "scaler": torch.amp.GradScaler("cpu")}

    def block(r: Roots) -> None:
        steps(r)
        r["opt"].param_groups[0]["lr"] = 0.5
        loss = r["net"](torch.ones(8, 3)).mean()
        r["scaler"].scale(loss).backward()
        r["scaler"].step(r["opt"])
        r["scaler"].update()

    continues(make, block)


def test_tied_weights_stay_tied() -> None:
    def make() -> Roots:
        net = Tied()
        return {"net": net, "opt": ADAM(net.parameters(), 0.01)}

    again = continues(make)
    assert again["net"].a.weight is again["net"].b.weight


def test_half_precision_and_moments_of_another_type() -> None:
    def make() -> Roots:
        net = Tied().to(torch.bfloat16)
        return {"net": net, "opt": ADAM(net.parameters(), 0.01)}

    def block(r: Roots) -> float:
        total = 0.0
        for _ in range(2):
            r["opt"].zero_grad()
            loss = r["net"](torch.randn(4, 3, dtype=torch.bfloat16)).float().square().mean()
            loss.backward()
            for p in r["net"].parameters():
                if p in r["opt"].state:
                    state = r["opt"].state[p]
                    state["master"] = p.detach().float() + 1e-4
            r["opt"].step()
            total += float(loss)
        return total

    again = continues(make, block, block)
    assert next(iter(again["opt"].state.values()))["master"].dtype == torch.float32


def test_flags_counters_and_replaced_parts() -> None:
    def make() -> Roots:
        net = Net()
        return {"net": net, "opt": SGD(net.parameters(), 0.1)}

    def block(r: Roots) -> None:
        steps(r)
        r["net"].eval()
        r["net"].body[1].train()
        r["net"].head = nn.Linear(4, 2)
        r["net"].body[0].weight.requires_grad_(False)
        r["net"].scale = r["net"].scale * 2

    recorded, again, graph = replayed(make, block)
    assert graph.problems == []
    a, b = recorded["net"], again["net"]
    assert equal(a.state_dict(), b.state_dict())
    assert [m.training for m in a.modules()] == [m.training for m in b.modules()]
    assert [p.requires_grad for p in a.parameters()] == [p.requires_grad for p in b.parameters()]
    assert (a.seen, a.log) == (b.seen, b.log)
    assert b.body[1].num_batches_tracked == 3
    assert equal(
        [p.grad for p in a.parameters() if p.grad is not None], [p.grad for p in b.parameters() if p.grad is not None]
    )
    assert torch.equal(a(torch.ones(2, 3)), b(torch.ones(2, 3)))
    b.head.register_forward_hook(lambda *_: None)  # what a new module needs is there


TENSORS: dict[str, tuple[Callable[[], Roots], Callable[[Roots], Any]]] = {
    "in place": (lambda: {"x": torch.zeros(3)}, lambda r: r["x"].add_(1)),
    "view": (lambda: {"x": (a := torch.zeros(6)), "y": a[2:4]}, lambda r: r["y"].add_(1)),
    "view made": (lambda: {"x": torch.zeros(6)}, lambda r: r.update(y=r["x"].view(2, 3).t()[1:])),
    "both made": (lambda: {"x": None}, lambda r: r.update(x=(a := torch.arange(6.0)), y=a[::2])),
    "expanded": (lambda: {"x": None}, lambda r: r.update(x=torch.ones(1).expand(4))),
    "0-d": (lambda: {"x": torch.tensor(1)}, lambda r: r["x"].add_(1)),
    "empty": (lambda: {"x": torch.zeros(0, 3)}, lambda r: r.update(y=torch.empty(2, 0))),
    "types": (lambda: {"x": None}, lambda r: r.update(x=[torch.ones(2, dtype=t) for t in (
        torch.bfloat16, torch.float16, torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.uint16)])),
    "replaced": (lambda: {"x": (a := torch.zeros(3)), "y": a}, lambda r: r.update(x=torch.ones(3))),
    "data replaced": (lambda: {"x": (a := torch.zeros(3)), "y": a, "z": a.view(3)}, lambda r: setattr(r["x"], "data", torch.ones(5))),
    "resized": (lambda: {"x": torch.zeros(3)}, lambda r: r["x"].resize_(5).fill_(2)),
    "grad": (lambda: {"x": torch.zeros(3, requires_grad=True)}, lambda r: (r["x"] * 2).sum().backward()),
    "attributes": (lambda: {"x": nn.Parameter(torch.zeros(3))}, lambda r: setattr(r["x"], "no_decay", [1])),
    "names of torch": (lambda: {"x": None}, lambda r: r.update(x=[torch.float32, torch.device("cpu"), torch.Size([1, 2]), torch.strided])),
    "generator": (lambda: {"x": torch.Generator()}, lambda r: r["x"].manual_seed(5)),
    "new generator": (lambda: {"x": None}, lambda r: r.update(x=torch.Generator().manual_seed(5))),
}  # fmt: skip


@pytest.mark.parametrize("name", TENSORS)
def test_tensors(name: str) -> None:
    recorded, again, graph = replayed(*TENSORS[name])
    assert graph.problems == []
    for key, a in recorded.items():
        b = again[key]
        if isinstance(a, torch.Tensor):
            assert (a.dtype, a.shape, a.stride(), a.storage_offset(), a.requires_grad) == (
                b.dtype,
                b.shape,
                b.stride(),
                b.storage_offset(),
                b.requires_grad,
            )
            assert torch.equal(a.detach(), b.detach())
            assert (a.grad is None) == (b.grad is None) and (a.grad is None or torch.equal(a.grad, b.grad))
            assert vars(a) == vars(b)
            for other in recorded:
                if isinstance(recorded[other], torch.Tensor) and a.numel():
                    assert (recorded[other] is a) == (again[other] is b)
                    shares = recorded[other].untyped_storage().data_ptr() == a.untyped_storage().data_ptr()
                    assert shares == (again[other].untyped_storage().data_ptr() == b.untyped_storage().data_ptr())
        elif isinstance(a, torch.Generator):
            assert torch.equal(a.get_state(), b.get_state())
        else:
            assert [type(x) for x in a] == [type(x) for x in b]
            assert all(
                torch.equal(x.float() if x.is_floating_point() else x, y.float() if y.is_floating_point() else y)
                if isinstance(x, torch.Tensor)
                else x == y
                for x, y in zip(a, b, strict=True)
            )


def test_the_last_loss_may_be_read_and_not_used() -> None:
    def block(r: Roots) -> None:
        r["loss"] = r["net"](torch.ones(4, 3)).mean()

    recorded, again, graph = replayed(lambda: {"net": Tied(), "loss": None}, block)
    assert graph.problems == []
    assert again["loss"].requires_grad and not again["loss"].is_leaf
    assert again["loss"].shape == recorded["loss"].shape
    with pytest.raises(ReplayError, match="gradients"):
        again["loss"].backward()


REFUSED: dict[str, Callable[[], Any]] = {
    "loader iterator": lambda: iter(torch.utils.data.DataLoader([1, 2])),
    "sparse": lambda: torch.eye(2).to_sparse(),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    "conjugate": lambda: torch.ones(2, dtype=torch.complex64).conj(),
    "script": lambda: torch.jit.script(nn.Linear(2, 2)),
    "lazy": lambda: nn.LazyLinear(2),
    "meta": lambda: torch.ones(2, device="meta"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    try:
        thing = REFUSED[name]()
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        pytest.fail(f"this torch has none: {error}")
    assert problems({"x": [thing]}) != []


class Sampler(torch.utils.data.Sampler[int]):
    def __init__(self) -> None:
        self.epoch = 0

    def __iter__(self) -> Any:
        return iter([(i + self.epoch) % 8 for i in range(8)])

    def __len__(self) -> int:
        return 8


class Data(torch.utils.data.Dataset[Any]):
    def __init__(self, n: int = 8) -> None:
        self.x = torch.arange(float(n * 400)).reshape(n, 400)
        self.reads = 0
        self.hard: list[int] = []

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> torch.Tensor:
        self.reads += 1
        self.hard.append(i)
        return self.x[i] + torch.rand(1) + random.random() + np.random.rand()


def test_what_was_computed_before_may_stay_as_it_is() -> None:
    """As the weight of a normed layer that a block does not run: its history is the one it has."""

    def make() -> Roots:
        torch.manual_seed(0)
        rate = torch.ones(2, requires_grad=True)
        return {"rate": rate, "weight": rate * 2, "net": nn.Linear(2, 2)}

    def block(r: Roots) -> None:
        with torch.no_grad():
            r["net"].weight.add_(1)

    recorded, again, graph = replayed(make, block)
    assert graph.problems == []
    assert torch.equal(recorded["net"].weight, again["net"].weight)
    again["weight"].sum().backward()
    assert again["rate"].grad.tolist() == [2.0, 2.0]
    assert problems(make(), lambda r: r["weight"].mul_(2)) == [
        "weight: a tensor that was changed in place within a computation of gradients"
    ]


def test_loaders_samplers_and_data_sets() -> None:
    def make() -> Roots:
        data, sampler, generator = Data(), Sampler(), torch.Generator().manual_seed(3)
        loaders = [
            torch.utils.data.DataLoader(data, 3, shuffle=True, generator=generator),
            torch.utils.data.DataLoader(data, 2, sampler=sampler),
        ]
        return {"loaders": loaders, "sampler": sampler, "data": data}

    def block(r: Roots) -> list[float]:
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        r["sampler"].epoch += 1
        return [float(x.sum()) for loader in r["loaders"] for x in loader]

    recorded, again, graph = replayed(make, block)
    assert graph.problems == []
    assert (16, recorded["data"].hard, 1) == (again["data"].reads, again["data"].hard, again["sampler"].epoch)
    assert block(recorded) == block(again)
    assert sum(b.nbytes for b in graph.blobs) < 100  # never the data


def test_a_changed_data_set_is_refused() -> None:
    assert problems({"d": Data()}) == []
    assert problems({"d": Data()}, lambda r: r["d"].x.add_(1)) != []
    assert problems({"d": Data()}, lambda r: setattr(r["d"], "x", torch.zeros(9, 400))) != []


def test_an_array_and_a_tensor_that_share_their_memory() -> None:
    def both() -> list[Any]:
        array = np.zeros(3)
        return [array, torch.from_numpy(array)]

    assert problems({"x": []}, lambda r: r["x"].append(both())) != []
    recorded, again, graph = replayed(lambda: {"x": both()}, lambda r: r["x"][0].__iadd__(1))
    assert graph.problems == []
    assert again["x"][1].tolist() == [1.0] * 3
    again["x"][1].add_(1)
    assert again["x"][0].tolist() == [2.0] * 3


def test_a_decorator_of_torch_hides_nothing() -> None:
    calls = {"n": 0}

    @torch.no_grad()
    def evaluate() -> int:
        calls["n"] += 1
        return calls["n"]

    anchors = states.survey({"f": evaluate})
    evaluate()
    graph, blobs = states.stored(states.capture({"f": evaluate}, anchors))
    calls["n"] = 0
    states.restore(graph, blobs, {"f": evaluate})
    assert calls["n"] == 1


def test_weights_kept_as_the_best() -> None:
    """`best` of the turn before is in a list as well; the block makes a new one."""
    kept: list[Any] = []

    def make() -> Roots:
        torch.manual_seed(1)
        net = Tied()
        best = copy.deepcopy(net.state_dict())
        kept.append((best, {k: v.clone() for k, v in best.items()}))
        return {"net": net, "opt": SGD(net.parameters(), 0.1), "best": best}

    def block(r: Roots) -> None:
        steps(r)
        r["best"] = copy.deepcopy(r["net"].state_dict())

    recorded, again, graph = replayed(make, block)
    assert graph.problems == []
    assert recorded["best"].keys() == again["best"].keys()
    assert all(equal(dict(best), then) for best, then in kept)
    assert (
        again["best"]["a.weight"].untyped_storage().data_ptr() == again["best"]["b.weight"].untyped_storage().data_ptr()
    )
