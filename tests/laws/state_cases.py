"""Every kind of state that a checkpoint has to hold: what it is made of, and what a step of training does to it.

`c` is the case's own object; a case is part of a program with a main loop and a training block, see `program`.
"""

from __future__ import annotations

import textwrap

HEAD = """\
import collections, copy, dataclasses, decimal, enum, fractions, functools, hashlib, itertools, math, random, types
import numpy as np
import torch
from torch import nn
from torch.optim import lr_scheduler as S
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn

random.seed(0)
np.random.seed(0)
torch.manual_seed(0)
torch.use_deterministic_algorithms(True)


class C:
    pass


def mlp(dtype=torch.float32):
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.2), nn.Linear(4, 2))
    return net.to(dtype)


def fit(net, opt, zero=True):
    x = torch.randn(5, 3, dtype=next(net.parameters()).dtype)

    def closure():
        if zero:
            opt.zero_grad()
        loss = net(x).float().square().mean()
        loss.backward()
        return loss

    return float(opt.step(closure).detach())


def look(obj, seen=None, keep=None):
    \"\"\"An object as text: its contents, bit for bit, and which parts are the same object.\"\"\"
    seen, keep = ({}, []) if seen is None else (seen, keep)
    kind = type(obj)
    if obj is None or kind in (bool, int, str, bytes, range, complex, decimal.Decimal, fractions.Fraction):
        return repr(obj)
    if kind is float:
        return obj.hex()
    if id(obj) in seen:
        return f"#{seen[id(obj)]}"
    seen[id(obj)] = len(seen)
    keep.append(obj)
    inner = functools.partial(look, seen=seen, keep=keep)
    if isinstance(obj, torch.Tensor):
        raw = obj.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes() if obj.numel() else b""
        storage = obj.untyped_storage().data_ptr()
        place = seen.setdefault(("memory", storage), len(seen))
        own = look(obj.grad, seen, keep) if obj.is_leaf else ""
        return f"{kind.__name__} {obj.dtype} {tuple(obj.shape)} {obj.stride()} {obj.requires_grad} {place} {raw.hex()} {own} {inner(vars(obj))}"
    if isinstance(obj, np.ndarray):
        base = obj
        while isinstance(base.base, np.ndarray):
            base = base.base
        place = seen.setdefault(("array", base.__array_interface__["data"][0]), len(seen))
        return f"{obj.dtype} {obj.shape} {obj.strides} {place} {obj.tobytes().hex() if obj.dtype != object else inner(obj.tolist())}"
    if isinstance(obj, np.generic):
        return f"{obj.dtype} {obj.tobytes().hex()}"
    if isinstance(obj, torch.Generator):
        return obj.get_state().numpy().tobytes().hex()
    if isinstance(obj, random.Random):
        return repr(obj.getstate())
    if isinstance(obj, np.random.Generator | np.random.RandomState):
        state = obj.bit_generator.state if hasattr(obj, "bit_generator") else obj.get_state(legacy=False)
        return repr(state)
    if isinstance(obj, type | types.ModuleType | types.BuiltinFunctionType | torch.dtype | torch.device | enum.Enum):
        return repr(obj)
    if isinstance(obj, types.FunctionType):
        return f"function {obj.__qualname__} {[inner(cell.cell_contents) for cell in obj.__closure__ or ()]}"
    if isinstance(obj, types.MethodType):
        return f"method {obj.__name__} {inner(obj.__self__)}"
    if isinstance(obj, dict):
        text = [f"{inner(k)}: {inner(v)}" for k, v in obj.items()]
    elif isinstance(obj, list | tuple | set | frozenset | collections.deque):
        text = [inner(item) for item in obj]
    elif hasattr(obj, "to_csv"):
        return f"{obj.to_csv()} {obj.dtypes} {obj.index!r}"
    else:
        text = []
    slots = [name for base in kind.__mro__ for name in getattr(base, "__slots__", ()) if hasattr(obj, name)]
    fields = vars(obj) if hasattr(obj, "__dict__") else {}
    text += [f"{name}={inner(getattr(obj, name))}" for name in slots if not name.startswith("__")]
    text += [f"{name}={inner(item)}" for name, item in fields.items() if not ("_hooks" in name and not item)]
    return f"{kind.__name__}({', '.join(text)})"


def show(name, obj):
    print(name, hashlib.sha256(look(obj).encode("utf-8", "surrogatepass")).hexdigest())
"""

TURNS = 3

LOOP = """\
optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)
for epoch in range({turns}):
    for batch in range(2):
        optimizer.step()
{steps}
    print("turn", epoch)
{looks}
"""

# name: (what it is made of, what a step of training does)
CASES: dict[str, tuple[str, str]] = {
    # -- optimizers ---------------------------------------------------------------------------------------------------
    **{
        f"optimizer_{name}": (f"c.net = mlp(); c.opt = {made}", "fit(c.net, c.opt)")
        for name, made in {
            "sgd": "torch.optim.SGD(c.net.parameters(), 0.1)",
            "momentum": "torch.optim.SGD(c.net.parameters(), 0.1, momentum=0.9, nesterov=True)",
            "adam": "torch.optim.Adam(c.net.parameters(), 0.01)",
            "adam_fused": "torch.optim.Adam(c.net.parameters(), 0.01, fused=True)",
            "adam_foreach": "torch.optim.Adam(c.net.parameters(), 0.01, foreach=True, amsgrad=True)",
            "adamw": "torch.optim.AdamW(c.net.parameters(), 0.01)",
            "adamax": "torch.optim.Adamax(c.net.parameters(), 0.01)",
            "nadam": "torch.optim.NAdam(c.net.parameters(), 0.01)",
            "radam": "torch.optim.RAdam(c.net.parameters(), 0.01)",
            "adadelta": "torch.optim.Adadelta(c.net.parameters())",
            "adafactor": "torch.optim.Adafactor(c.net.parameters())",
            "adagrad": "torch.optim.Adagrad(c.net.parameters(), 0.1)",
            "rmsprop": "torch.optim.RMSprop(c.net.parameters(), 0.01, centered=True, momentum=0.9)",
            "rprop": "torch.optim.Rprop(c.net.parameters(), 0.01)",
            "asgd": "torch.optim.ASGD(c.net.parameters(), 0.01)",
            "lbfgs": "torch.optim.LBFGS(c.net.parameters(), 0.1, max_iter=3, line_search_fn='strong_wolfe')",
            "own": "Own(c.net.parameters(), 0.05)",
            "wrapped": "Lookahead(torch.optim.SGD(c.net.parameters(), 0.1, momentum=0.5))",
        }.items()
    },
    "optimizer_groups": (
        "c.net = mlp(); c.opt = torch.optim.AdamW([{'params': [p for p in c.net.parameters() if p.ndim > 1], 'weight_decay': 0.1},"
        " {'params': [p for p in c.net.parameters() if p.ndim < 2], 'lr': 0.5}], 0.01)",
        "fit(c.net, c.opt); c.opt.param_groups[1]['lr'] *= 0.9",
    ),
    "optimizer_group_added": (
        "c.net, c.more, c.n = mlp(), nn.Linear(2, 2), 0; c.opt = torch.optim.Adam(c.net.parameters(), 0.01)",
        "c.n += 1; c.n == 3 and c.opt.add_param_group({'params': c.more.parameters()}); fit(nn.Sequential(c.net, c.more), c.opt)",
    ),
    "optimizer_swapped": (
        "c.net, c.n = mlp(), 0; c.opt = torch.optim.SGD(c.net.parameters(), 0.1, momentum=0.9)",
        "c.n += 1\nif c.n == 3: c.opt = torch.optim.ASGD(c.net.parameters(), 0.1)\nfit(c.net, c.opt)",
    ),
    "optimizer_sparse": (
        "c.net = nn.Embedding(9, 3, sparse=True); c.opt = torch.optim.SparseAdam(c.net.parameters(), 0.1)",
        "c.opt.zero_grad(); c.net(torch.randint(9, (4,))).square().sum().backward(); c.opt.step(); c.opt.zero_grad()",
    ),
    "optimizer_bf16_with_fp32_state": (
        "c.net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).to(torch.bfloat16); c.opt = Masters(c.net.parameters(), 0.05)",
        "fit(c.net, c.opt)",
    ),
    "optimizer_tensor_lr": (
        "c.net = mlp(); c.opt = torch.optim.Adam(c.net.parameters(), torch.tensor(0.01))",
        "fit(c.net, c.opt); c.opt.param_groups[0]['lr'].mul_(0.9)",
    ),
    # -- schedulers ---------------------------------------------------------------------------------------------------
    **{
        f"scheduler_{name}": (
            f"c.net = mlp(); c.opt = torch.optim.SGD(c.net.parameters(), 0.1, momentum=0.9); c.sched = {made}",
            "loss = fit(c.net, c.opt); c.sched.step(*([loss] if isinstance(c.sched, S.ReduceLROnPlateau) else []))",
        )
        for name, made in {
            "step": "S.StepLR(c.opt, 3)",
            "multistep": "S.MultiStepLR(c.opt, [2, 5, 5])",
            "exponential": "S.ExponentialLR(c.opt, 0.9)",
            "cosine": "S.CosineAnnealingLR(c.opt, 9)",
            "restarts": "S.CosineAnnealingWarmRestarts(c.opt, 3, 2)",
            "plateau": "S.ReduceLROnPlateau(c.opt, patience=1, cooldown=1)",
            "one_cycle": "S.OneCycleLR(c.opt, 0.5, total_steps=30)",
            "cyclic": "S.CyclicLR(c.opt, 0.01, 0.1, 3, mode='exp_range', gamma=0.9)",
            "cyclic_closure": "S.CyclicLR(c.opt, 0.01, 0.1, 3, scale_fn=lambda n: 0.9**n)",
            "polynomial": "S.PolynomialLR(c.opt, 9)",
            "linear": "S.LinearLR(c.opt, total_iters=5)",
            "lambda": "S.LambdaLR(c.opt, lambda n: 0.9**n)",
            "lambda_closure": "S.LambdaLR(c.opt, warm(3))",
            "lambda_object": "S.LambdaLR(c.opt, Warm())",
            "multiplicative": "S.MultiplicativeLR(c.opt, lambda n: 0.95)",
            "sequential": "S.SequentialLR(c.opt, [S.LinearLR(c.opt, total_iters=3), S.CosineAnnealingLR(c.opt, 9)], [3])",
            "chained": "S.ChainedScheduler([S.ConstantLR(c.opt, 0.5, 2), S.ExponentialLR(c.opt, 0.9)])",
            "swa": "SWALR(c.opt, 0.5, anneal_epochs=5)",
        }.items()
    },
    # -- modules ------------------------------------------------------------------------------------------------------
    "module_buffers": (
        "c.net = mlp(); c.net.register_buffer('seen', torch.zeros(1)); c.net.register_buffer('gone', torch.ones(2), persistent=False)",
        "c.net(torch.randn(5, 3)); c.net.seen += 1; c.net.gone = c.net.gone * 2",
    ),
    "module_training_flags": (
        "c.net, c.n = nn.Sequential(mlp(), mlp()), 0",
        "c.n += 1; c.net.train(c.n % 3 > 0); c.net[0][1].train(c.n % 2 > 0); c.net(torch.randn(5, 3)) if False else c.net[0](torch.randn(5, 3))",
    ),
    "module_frozen_and_thawed": (
        "c.net, c.n = mlp(), 0",
        "c.n += 1; [p.requires_grad_((c.n + i) % 2 == 0) for i, p in enumerate(c.net.parameters())]",
    ),
    "module_tied": (
        "c.net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)); c.net[1].weight = c.net[0].weight; c.opt = torch.optim.Adam(c.net.parameters(), 0.1)",
        "fit(c.net, c.opt)",
    ),
    "module_part_replaced": ("c.net = mlp()", "c.net[3] = nn.Linear(4, 2)"),
    "module_grown": ("c.net = nn.ModuleList([nn.Linear(2, 2)])", "c.net.append(nn.Linear(2, 2))"),
    "module_spectral_norm": (
        "c.net = torch.nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2)); c.opt = torch.optim.SGD(c.net.parameters(), 0.1)",
        "fit(c.net, c.opt)",
    ),
    "module_hidden_state": (
        "c.net, c.h = nn.GRUCell(3, 4), torch.zeros(5, 4); c.opt = torch.optim.SGD(c.net.parameters(), 0.1)",
        "c.h = c.net(torch.randn(5, 3), c.h.detach()); c.opt.zero_grad(); c.h.square().mean().backward(); c.opt.step(); c.h = c.h.detach()",
    ),
    "module_ddp_like": (
        "c.net = mlp(); c.wrapper = types.SimpleNamespace(module=c.net); c.raw = c.net; c.opt = torch.optim.SGD(c.wrapper.module.parameters(), 0.1)",
        "fit(c.wrapper.module, c.opt)",
    ),
    "criterion": (
        "c.loss = CenterLoss(); c.opt = torch.optim.SGD(c.loss.parameters(), 0.5)",
        "c.opt.zero_grad(); c.loss(torch.randn(5, 2)).backward(); c.opt.step()",
    ),
    "criterion_weight": (
        "c.loss = nn.CrossEntropyLoss(weight=torch.ones(3)); c.seen = []",
        "c.loss.weight[random.randrange(3)] *= 1.1; c.seen.append(float(c.loss(torch.randn(4, 3), torch.randint(3, (4,)))))",
    ),
    "scaler": (
        "c.net = mlp(); c.opt = torch.optim.SGD(c.net.parameters(), 0.1); c.scaler = torch.amp.GradScaler('cpu', init_scale=8.0, growth_interval=2)",
        "c.opt.zero_grad(); c.scaler.scale(c.net(torch.randn(5, 3)).mean()).backward(); c.scaler.step(c.opt); c.scaler.update()",
    ),
    "ema": (
        "c.net = mlp(); c.ema = AveragedModel(c.net, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True); c.opt = torch.optim.SGD(c.net.parameters(), 0.1)",
        "fit(c.net, c.opt); c.ema.update_parameters(c.net)",
    ),
    "swa": (
        "c.net = mlp(); c.ema = AveragedModel(c.net); c.opt = torch.optim.SGD(c.net.parameters(), 0.1)",
        "fit(c.net, c.opt); c.ema.update_parameters(c.net)",
    ),
    "ema_by_hand": (
        "c.net = mlp(); c.shadow = {k: v.clone() for k, v in c.net.state_dict().items()}; c.opt = torch.optim.SGD(c.net.parameters(), 0.1)",
        "fit(c.net, c.opt)\nfor k, v in c.net.state_dict().items(): c.shadow[k] = c.shadow[k] * 0.9 + v.detach() * 0.1",
    ),
    "ema_deepcopy": (
        "c.net = mlp(); c.ema = copy.deepcopy(c.net).requires_grad_(False); c.opt = torch.optim.SGD(c.net.parameters(), 0.1)",
        "fit(c.net, c.opt)\nfor a, b in zip(c.ema.parameters(), c.net.parameters()): a.data.lerp_(b.data, 0.1)",
    ),
    "best_weights": (
        "c.net, c.best, c.lowest = mlp(), None, math.inf; c.opt = torch.optim.SGD(c.net.parameters(), 0.1)",
        "loss = fit(c.net, c.opt)\nif loss < c.lowest: c.lowest, c.best = loss, copy.deepcopy(c.net.state_dict())",
    ),
    "gradients_accumulated": (
        "c.net, c.n = mlp(), 0; c.opt = torch.optim.SGD(c.net.parameters(), 0.1)",
        "c.n += 1; c.net(torch.randn(5, 3)).mean().backward()\nif c.n % 3 == 0: c.opt.step(); c.opt.zero_grad()",
    ),
    "gradients_of_inputs": (
        "c.x = torch.zeros(3, requires_grad=True)",
        "(c.x * torch.randn(3)).sum().backward(); c.x.data -= 0.1 * c.x.grad",
    ),
    "gradients_read_before_zero": (
        "c.net, c.norms = mlp(), []; c.opt = torch.optim.SGD(c.net.parameters(), 0.1)",
        "c.norms.append([None if p.grad is None else float(p.grad.norm()) for p in c.net.parameters()]); fit(c.net, c.opt)",
    ),
    "gradients_none_or_zero": (
        "c.net, c.n = mlp(), 0; c.opt = torch.optim.SGD(c.net.parameters(), 0.1, momentum=0.9)",
        "c.n += 1; fit(c.net, c.opt); c.opt.zero_grad(set_to_none=c.n % 2 == 0)",
    ),
    # -- aliases ------------------------------------------------------------------------------------------------------
    "alias_views": (
        "c.flat = torch.zeros(12); c.a, c.b = c.flat[:6].view(2, 3), c.flat[4:]; c.t = c.a.t()",
        "c.a += torch.randn(2, 3); c.b *= 1.5",
    ),
    "alias_views_made": ("c.flat, c.parts = None, None", "c.flat = torch.randn(6); c.parts = [c.flat[:3], c.flat[2:], c.flat]"),
    "alias_lists": ("c.x = c.y = []; c.z = {'x': c.x}", "c.x.append(len(c.y)); c.n = {'again': c.z}"),
    "alias_array_of_tensor": (
        "c.t = torch.zeros(4); c.a = c.t.numpy(); c.half = c.a[::2]",
        "c.a += np.random.rand(4).astype('f4'); c.half *= 2",
    ),
    # -- random states ------------------------------------------------------------------------------------------------
    "random_python": ("c.r = random.Random(3); c.x = []", "c.x.append((c.r.gauss(0, 1), random.random()))"),
    "random_numpy": (
        "c.r, c.old, c.x = np.random.default_rng(3), np.random.RandomState(4), []",
        "c.x.append((c.r.normal(), c.old.normal(), np.random.normal()))",
    ),
    "random_numpy_kinds": (
        "c.r = [np.random.Generator(kind(5)) for kind in (np.random.MT19937, np.random.Philox, np.random.SFC64, np.random.PCG64DXSM)]; c.x = []",
        "c.x += [r.integers(1000, dtype='u4') for r in c.r]",
    ),
    "random_torch": ("c.g = torch.Generator().manual_seed(3); c.x = []", "c.x.append(torch.rand(2, generator=c.g) + torch.rand(2))"),
    "loader": (
        "c.data = [float(i) for i in range(10)]; c.loader = torch.utils.data.DataLoader(c.data, 3, shuffle=True); c.x = []",
        "c.x.append([x.tolist() for x in c.loader])",
    ),
    "loader_generator": (
        "c.g = torch.Generator().manual_seed(9); c.loader = torch.utils.data.DataLoader(range(10), 3, shuffle=True, generator=c.g); c.x = []",
        "c.x.append([x.tolist() for x in c.loader])",
    ),
    "loader_sampler": (
        "c.sampler = Sampler(); c.loader = torch.utils.data.DataLoader(range(8), 3, sampler=c.sampler); c.x = []",
        "c.sampler.epoch += 1; c.x.append([x.tolist() for x in c.loader])",
    ),
    "loader_weighted": (
        "c.w = torch.ones(8, dtype=torch.float64); c.loader = torch.utils.data.DataLoader(range(8), 3, sampler=torch.utils.data.WeightedRandomSampler(c.w, 8)); c.x = []",
        "c.x.append([x.tolist() for x in c.loader]); c.loader.sampler.weights[c.x[-1][0][0]] += 1",
    ),
    "data_set_counter": (
        "c.data = Noisy(); c.loader = torch.utils.data.DataLoader(c.data, 3); c.x = []",
        "c.data.epoch += 1; c.x.append([x.tolist() for x in c.loader])",
    ),
    # -- plain values, containers, objects ----------------------------------------------------------------------------
    "plain": (
        "c.n, c.best, c.big, c.text, c.raw, c.z, c.none = 0, -math.inf, 2**70, '', b'', 1j, None",
        "c.n += 1; c.best = c.n / 3; c.big *= 3; c.text += '\\u00e9\\ud800'; c.raw += b'\\xff'; c.z *= 2j; c.none = None if c.none else math.nan",
    ),
    "plain_odd": (
        "c.x, c.s, c.r, c.d, c.e = -0.0, slice(1), range(3), decimal.Decimal('0.1'), Color.RED",
        "c.x = -c.x; c.s = slice(c.s.stop + 1); c.r = range(c.r.stop + 1); c.d *= 3; c.e = Color.BLUE if c.e is Color.RED else Color.RED",
    ),
    "containers": (
        "c.l, c.d, c.o, c.dd, c.ct, c.dq, c.ba = [], {}, collections.OrderedDict(), collections.defaultdict(list), collections.Counter(), collections.deque(maxlen=3), bytearray()",
        "n = len(c.l); c.l.append((n, [n])); c.d[n, 'x'] = {n: None}; c.o[n] = n; c.o.move_to_end(0); c.dd[n % 2].append(n); c.ct['ab'[n % 2]] += n; c.dq.appendleft(n); c.ba.append(n)",
    ),
    "sets": ("c.s, c.f = set(), frozenset()", "c.s.add(len(c.s)); c.s.add('abcdefgh'[len(c.s) % 8]); c.f = frozenset(range(len(c.s)))"),
    "cycle": ("c.l = []; c.l.append(c.l); c.me = c", "c.l.append([c.l, c])"),
    "dataclass": (
        "c.m = Meter(); c.frozen = Point(0, [1])",
        "c.m.add(random.random()); c.frozen = dataclasses.replace(c.frozen, x=c.frozen.x + 1)",
    ),
    "slots": ("c.s = Slots()", "c.s.n = getattr(c.s, 'n', 0) + 1; c.s._Slots__hidden = [c.s.n]"),
    "class_attribute": ("c.kind = Counting", "Counting.made += 1; Counting.table[Counting.made] = []; c.x = Counting()"),
    "closure": ("c.count = counter(); c.x = []", "c.x.append(c.count())"),
    "default_argument": ("c.f, c.x = remember, []", "c.x.append(len(c.f(random.random())))"),
    "function_attribute": ("c.f = warm; warm.calls = 0", "warm.calls += 1"),
    "module_global": ("c.x = 0", "global STEPS\nSTEPS += 1; HISTORY.append(STEPS); c.x = STEPS"),
    "partial_and_method": ("c.m = Meter(); c.add = c.m.add; c.p = functools.partial(c.m.add, 2.0)", "c.add(1.0); c.p()"),
    "subclasses": ("c.d, c.l, c.t, c.tt = Config(), Names(), Pair(0, []), None", "n = len(c.d); c.tt = Triple(n, [c.tt]); c.tt.more = n; c.d[n] = n; c.d.last = n; c.l.append(n); c.t = Pair(n, c.t.b + [n])"),
    "arrays": (
        "c.a, c.f, c.v, c.o = np.zeros((2, 3)), np.asfortranarray(np.zeros((2, 3))), None, np.array([None, []], dtype=object)",
        "c.a += np.random.rand(2, 3); c.f[:, 1] += c.a[:, 0]; c.v = c.a[:, ::2]; c.o[0] = c.a; c.o[1].append(1); c.s = np.float32(c.a[0, 0])",
    ),
    "arrays_odd": (
        "c.r = np.zeros(3, dtype=[('a', 'i4'), ('b', 'f8')]); c.m = np.zeros(3, dtype='datetime64[s]'); c.t = np.array(['a', 'bc']); c.g = np.zeros(4)",
        "c.r['a'] += 1; c.m += np.timedelta64(1, 's'); c.t[0] = 'x'; c.g = np.append(c.g, len(c.g)); c.g.flags.writeable = False",
    ),
    "replay_buffer": ("c.b = collections.deque(maxlen=5)", "c.b.append((torch.randn(2), random.randrange(3), float(np.random.rand())))"),
    "pandas": (
        "import pandas as pd\nc.df = pd.DataFrame({'a': [1.0], 'b': ['x']}); c.s = pd.Series([1, 2])",
        "c.df.loc[len(c.df)] = [random.random(), 'y']; c.s[0] += 1",
    ),
}  # fmt: skip

OWN = """\
class Own(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})
        self.calls = 0

    def step(self, closure):
        loss = closure()
        self.calls += 1
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["mean"], state["n"], state["rows"] = torch.zeros_like(p), 0, []
                state["n"] += 1
                state["rows"].append(float(p.detach().sum()))
                state["mean"].lerp_(p.grad, 1 / state["n"])
                p.data.add_(state["mean"], alpha=-group["lr"])
        return loss


class Masters(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    def step(self, closure):
        loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["master"], state["square"] = p.detach().float(), torch.zeros_like(p, dtype=torch.float32)
                state["square"].mul_(0.9).addcmul_(p.grad.float(), p.grad.float(), value=0.1)
                state["master"].addcdiv_(p.grad.float(), state["square"].sqrt() + 1e-8, value=-group["lr"])
                p.data.copy_(state["master"])
        return loss


class Lookahead:
    def __init__(self, inner):
        self.inner, self.n = inner, 0
        self.slow = [p.detach().clone() for group in inner.param_groups for p in group["params"]]

    def zero_grad(self):
        self.inner.zero_grad()

    def step(self, closure):
        loss = self.inner.step(closure)
        self.n += 1
        if self.n % 2 == 0:
            fast = [p for group in self.inner.param_groups for p in group["params"]]
            for slow, p in zip(self.slow, fast):
                slow.lerp_(p.detach(), 0.5)
                p.data.copy_(slow)
        return loss


class CenterLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.centers, self.n = nn.Parameter(torch.zeros(3, 2)), 0

    def forward(self, x):
        self.n += len(x)
        return (x[:, None] - self.centers).square().sum(-1).min(1).values.mean()


def warm(n):
    return lambda step: min(1.0, (step + 1) / n)


class Warm:
    def __init__(self):
        self.calls = 0

    def __call__(self, n):
        self.calls += 1
        return 0.9**self.calls


class Sampler(torch.utils.data.Sampler):
    def __init__(self):
        self.epoch = 0

    def __iter__(self):
        return iter([(i + self.epoch) % 8 for i in range(8)])

    def __len__(self):
        return 8


class Noisy(torch.utils.data.Dataset):
    def __init__(self):
        self.x, self.epoch = torch.arange(8.0), 0

    def __len__(self):
        return 8

    def __getitem__(self, i):
        return self.x[i] * self.epoch + random.random() + torch.rand(1) + np.random.rand()


class Color(enum.Enum):
    RED, BLUE = 1, 2


@dataclasses.dataclass
class Meter:
    total: float = 0.0
    values: list = dataclasses.field(default_factory=list)

    def add(self, x):
        self.total += x
        self.values.append(x)


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: list


class Slots:
    __slots__ = ("n", "__hidden", "unbound")


class Counting:
    made = 0
    table = {}


def counter():
    n = 0

    def count():
        nonlocal n
        n += 1
        return n

    return count


def remember(x, seen=[]):
    seen.append(x)
    return seen


STEPS, HISTORY = 0, []


class Config(dict):
    pass


class Names(list):
    pass


class Pair(collections.namedtuple("Pair", "a b")):
    __slots__ = ()


class Triple(Pair):
    pass
"""


def program(cases: dict[str, tuple[str, str]], more: str = "", turns: int = TURNS) -> str:
    """A training script in which each case is an object of its own; it prints what each holds, turn by turn."""
    parts = [HEAD, OWN, more]
    for name, (made, step) in cases.items():
        parts.append(f"\n\ndef make_{name}(c):\n{textwrap.indent(made, '    ')}\n")
        parts.append(f"\n\ndef step_{name}(c):\n{textwrap.indent(step, '    ')}\n")
    parts.append("\n\n")
    parts += [f"{name} = C()\nmake_{name}({name})\n" for name in cases]
    steps = "".join(f"        step_{name}({name})\n" for name in cases)
    looks = "".join(f"    show({name!r}, {name})\n" for name in cases)
    parts.append(LOOP.format(turns=turns, steps=steps, looks=looks))
    return "".join(parts)
