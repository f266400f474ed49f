"""What libraries' names mean: tables, not code. To teach the transformer a library, add its words here."""

from __future__ import annotations

import re

_I = re.IGNORECASE

# -- stepping ---------------------------------------------------------------------------------------------------------

#: last name of a receiver whose `.step()` updates parameters
OPTIMIZER_NAME = re.compile(
    r"optim|(^|_)opts?($|_|\d)|^opt[A-Z_\d]|_?opt$|^(sgd|adam|adamw|lbfgs|solver|muon)$|(^|_)(model_)?engine$|^inner_step$",
    _I,
)
#: names that the pattern above would take for an optimizer, and that are none
NOT_OPTIMIZER_NAME = re.compile(r"sched|state|^options?$|^opts?_?(parser|ions)|lr_|warmup", _I)
#: classes whose instances are optimizers (by last name), whatever the variable is called
OPTIMIZER_CLASS = re.compile(
    r"^(SGD|ASGD|Adam\w*|NAdam|RAdam|RMSprop\w*|Adagrad|Adadelta|Adafactor|LBFGS|Rprop|SparseAdam|Lion|Lamb|LARS|Ranger\w*|"
    r"Muon|Sophia\w*|Prodigy|Shampoo|NoamOpt|ScheduledOptim|\w*Optimizer|BertAdam|OpenAIAdam|adamw|adam|sgd|create_optimizer\w*|"
    r"get_optimizer\w*|build_optimizer|make_optimizer|configure_optimizers|optimizer_factory)$"
)
#: optimizer modules: anything constructed from them is an optimizer, but for schedulers
OPTIMIZER_MODULE = re.compile(r"(^|\.)(optim|optimizers)\.(?!lr_scheduler|swa_utils)\w+$")
SCALER_NAME = re.compile(r"scaler", _I)
SCHEDULER_NAME = re.compile(r"sched|(^|_)lr_?(decay|policy)|warmup", _I)
#: methods of an optimizer, besides `step`, that update parameters: `first_step`, `step_and_update_lr`
STEP_METHOD = re.compile(r"(^|_)step($|_)")
#: methods that update a model whoever the receiver is
STEPPING_METHODS = frozenset(
    {
        "partial_fit",
        "train_on_batch",
        "apply_gradients",
        "apply_gradient",
        "optimize_parameters",
        "minimize",
        "train_batch",
        "fused_step",
        "stateless_apply",
    }
)
#: functions (by dotted name) that update parameters
STEPPING_CALLS = re.compile(r"(^|\.)(apply_updates|opt_update|apply_gradients)$")
#: maps over trees of parameters; with gradients among the arguments: a step
TREE_MAP = re.compile(r"(^|\.)(tree\.map|tree_map|tree_multimap|map_structure)$")
#: weights of a model written out by hand, and what they are changed by
WEIGHTS_NAME = re.compile(r"^(w|weights?|bias(es)?|b|theta|params?|coefs?|beta)_?\d*_?$", _I)
CHANGE_NAME = re.compile(r"grad|delta|update|(^|_)d[wb]\d*$|^dot$", _I)
#: who runs the operations of a graph, and which of these operations train
SESSION_NAME = re.compile(r"(^|_)(sess|session)$", _I)
TRAINING_OPERATION = re.compile(r"train|optim|solver|minimize|update|(^|_)opt($|_)", _I)
#: methods that train a whole model: a step only where one call is one epoch
FITTING_METHODS = frozenset({"fit", "fit_generator"})
EPOCHS_ARGUMENTS = frozenset({"epochs", "nb_epoch", "n_epochs", "num_epochs"})
#: receivers whose `update(...)` or `train(...)` trains
LEARNER_NAME = re.compile(
    r"(^|_)(agents?|learner|algo|algorithm|trainer|ppo|sac|ddpg|td3|dqn|a2c|maddpg|policy)($|_|\d)", _I
)
#: calls of unknown origin that probably train; believed only when nothing surer is in sight
WEAK_STEPPING_CALLS = re.compile(
    r"^_?(train|do_train|run_train|train_?(one_?)?(epoch|step|iter|iteration|batch|model|loop)\w*|"
    r"(do_|run_)?(train|training)_?(epoch|step|iter|batch|loop)\w*|run_epoch|update_?(params|parameters|model|policy)|learn)$",
    _I,
)
#: methods of an optimizer that make a step when they are given something (optax, nnx, Keras 3)
OPTIMIZER_UPDATES = frozenset({"update", "apply"})
#: methods that make the step of an optimizer given to them
OPTIMIZING_METHODS = frozenset({"optimize", "optimizer_step", "opt_step"})
#: methods of tensors that are a step by hand when a gradient is among their arguments
UPDATING_METHODS = frozenset({"add_", "sub_", "addcdiv_", "copy_"})
BACKWARD_METHODS = frozenset({"backward", "manual_backward"})
#: loops over these change parameters or optimizers one by one: part of a step, not a loop over data
PARAMETER_ITERABLES = re.compile(
    r"(^|[._])(parameters|named_parameters|param_groups|params|optimizers?|optims?|opts|weights|buffers)$", _I
)

# -- models and evaluation --------------------------------------------------------------------------------------------

MODEL_NAME = re.compile(
    r"(^|_)(model|models|net|network|nets|generator|discriminator|encoder|decoder|classifier|backbone|student|teacher|"
    r"vae|gan|unet|resnet\d*|vgg\d*|cnn|mlp|lstm|gru|rnn|gpt|bert|transformer|agent|actor|critic|policy|module|learner)($|_|\d)"
    r"|^net[A-Z]|^[GD](_|$)|^(model|net)[A-Z]"
)
#: methods that only a model is taken to have
MODEL_METHODS = frozenset({"eval", "train", "parameters", "named_parameters"})
#: methods that run a model
FORWARD_METHODS = frozenset(
    {"forward", "generate", "encode", "decode", "sample", "get_action", "loss", "apply", "get_loss", "act"}
)
PREDICT_METHODS = frozenset(
    {"predict", "predict_on_batch", "test_on_batch", "predict_proba", "predict_step", "validation_step", "eval_step"}
)
NO_GRAD = re.compile(r"(^|\.)(no_grad|inference_mode|set_grad_enabled)$")
EVALUATION_NAME = re.compile(
    r"eval|test|val(id)?($|_|\d|ate|ation|_?loader)|infer|predict|score|accuracy|benchmark|sample|(^|_)dev($|_)", _I
)
TRAINING_NAME = re.compile(r"train|(^|_)tr($|_)", _I)

# -- loops ------------------------------------------------------------------------------------------------------------

#: iterables that are wrappers: what counts is their first argument
TRANSPARENT_ITERABLES = frozenset(
    {"tqdm", "enumerate", "zip", "iter", "list", "tuple", "sorted", "reversed", "islice", "trange_", "track",
     "progress_bar", "log_every", "metric_log", "master_bar", "notebook_tqdm", "tqdm_notebook", "cycle", "auto",
     "shuffled"}
)  # fmt: skip
RANGE_ITERABLES = frozenset({"range", "trange", "count", "xrange", "arange", "tnrange"})
EPOCH_NAME = re.compile(r"epoch|(^|_)ep($|_|s$)|^e$", _I)
#: numbers of steps, in which the word has another part
NOT_EPOCH_NAME = re.compile(r"(per|an|each|one)_?epoch|epoch_?(size|len|length|steps|iters|batches)", _I)
#: functions that are one turn of a loop over epochs, and parameters that say which
ONE_EPOCH_NAME = re.compile(
    r"(^|_)((train|training|run|fit|do)_?(one_?|an?_?|single_?)?epoch|epoch_?(train|step))$", _I
)
THIS_EPOCH_NAME = re.compile(r"^((this|cur|current)_?)?epoch(_?(i|idx|index|id|no))?$", _I)
#: targets of loops that train several models one after the other
GRID_NAME = re.compile(
    r"(^|_)(fold|folds|kfold|seed|seeds|run|runs|trial|trials|rep|repeat|repetition|exp|experiment|config|cfg|setting|hparams?|"
    r"lr|learning_rate|hidden|width|dataset|ds_?name|split|restart|subject|method|model_?name|arch|generation|ablation)($|_|\d)",
    _I,
)
DATA_NAME = re.compile(
    r"load|data|batch|(^|_)dl($|_)|iterator|sampler|samples|corpus|feeder|queue|pbar|bar$|progress", _I
)

# -- what can't be skipped --------------------------------------------------------------------------------------------

ENVIRONMENT_NAME = re.compile(r"(^|_)(env|envs|environment|environments|gym|simulator|vec_?env)($|_|\d)", _I)
ENVIRONMENT_METHODS = frozenset({"step", "reset", "step_async", "step_wait"})
REPLAY_NAME = re.compile(r"replay|(^|_)(rb|buffer|memory)($|_)", _I)
REPLAY_METHODS = frozenset({"push", "store", "sample", "remember"})
#: calls that end the program on the spot; `sys.exit` is an exception like others
EXITS = re.compile(r"^os\.(_exit|abort|exec[lv]p?e?)$")
DYNAMIC_CALLS = frozenset({"exec", "eval", "globals", "locals", "vars", "dir"})
OPEN_CONTEXT_METHODS = frozenset({"enter_context", "__enter__", "enter_async_context", "__aenter__"})
NEXT_METHODS = frozenset({"next", "__next__"})
#: calls whose results can be gone over only once
ITERATOR_CALLS = frozenset(
    {"iter", "map", "filter", "zip", "enumerate", "reversed", "open", "reader", "DictReader", "islice", "cycle",
     "chain", "count", "from_iterable", "iglob", "scandir", "walk"}
)  # fmt: skip

#: decorators (last name) under which a loop may be wrapped: they call the function as it is
SAFE_DECORATORS = frozenset(
    {"no_grad", "enable_grad", "inference_mode", "set_grad_enabled", "staticmethod", "classmethod", "property",
     "record", "main", "command", "option", "argument", "group", "pass_context", "wraps", "lru_cache", "cache",
     "contextmanager", "override", "overload", "abstractmethod", "dataclass", "timer", "timeit", "capture",
     "automain", "app", "cli", "profile", "find_executable_batch_size", "hydra_runner", "rank_zero_only",
     "master_only", "errors", "final", "autocast", "on_main_process", "total_ordering", "ex", "typechecked",
     "register", "register_module", "register_trainer", "configurable", "slow_test", "app_main", "parse",
     "wrap", "argh"}
)  # fmt: skip
#: functions that read or compile the source of the function given to them
COMPILERS = re.compile(
    r"(^|\.)(jit\.\w+|script|script_if_tracing|compile|njit|jit|vectorize|guvectorize|pjit|pmap|vmap|function|kernel|"
    r"to_static|compile_fn|checkify|autojit|AutoGraph|trace)$"
)
#: functions that give back the function they are given, transformed
TRANSFORMS = re.compile(r"(^|\.)(jit|njit|pmap|pjit|compile|partial|function|script|shard_map|cached_partial|remat)$")
#: context managers known not to swallow exceptions
NEVER_SWALLOWS = frozenset(
    {"no_grad", "enable_grad", "inference_mode", "set_grad_enabled", "autocast", "open", "tqdm", "trange",
     "catch_warnings", "profile", "record_function", "accumulate", "no_sync", "device", "scope", "GradientTape",
     "name_scope", "set_detect_anomaly", "detect_anomaly", "Pool", "ThreadPoolExecutor", "ProcessPoolExecutor",
     "SummaryWriter", "start_run", "Lock", "errstate", "strategy", "join", "Join", "sdpa_kernel", "nullcontext",
     "TemporaryDirectory", "Session", "as_default", "Progress", "progress_bar"}
)  # fmt: skip

# -- what changes -----------------------------------------------------------------------------------------------------

#: methods that only read their receiver: they may be called once more, for a value to be looked at
READING_METHODS = frozenset(
    {"abs", "absolute", "all", "any", "argmax", "argmin", "as_posix", "bool", "buffers", "capitalize", "children",
     "chunk", "clone", "contiguous", "copy", "count", "cpu", "cuda", "cumsum", "data_ptr", "detach", "dim", "double",
     "element_size", "endswith", "eq", "exp", "expand", "expanduser", "flatten", "float", "format", "ge", "get",
     "get_last_lr", "get_lr", "gt", "half", "index", "int", "is_floating_point", "isoformat", "item", "items",
     "join", "keys", "le", "log", "long", "lower", "lstrip", "lt", "max", "mean", "median", "min", "modules",
     "named_buffers", "named_children", "named_modules", "named_parameters", "ne", "nelement", "nonzero", "norm",
     "numel", "numpy", "parameters", "permute", "pow", "prod", "replace", "reshape", "rstrip", "sigmoid", "size",
     "softmax", "split", "sqrt", "squeeze", "startswith", "state_dict", "std", "strftime", "stride", "strip", "sum",
     "t", "tanh", "title", "to", "tolist", "topk", "total_seconds", "transpose", "type", "unique", "unsqueeze",
     "upper", "values", "var", "view", "zfill"}
)  # fmt: skip
#: methods that leave their receiver as it was; some of these write, or draw random numbers
PURE_METHODS = READING_METHODS | frozenset(
    {"__len__", "accumulate", "add_histogram", "add_image", "add_scalar", "add_scalars", "astype", "autocast",
     "backward", "choice", "compute", "critical", "debug", "decode", "decode_batch", "dot", "encode", "error",
     "exception", "exists", "expand_as", "flush", "gather", "gather_for_metrics", "get_rank", "info", "is_available",
     "is_main_process", "masked_fill", "masked_select", "mkdir", "narrow", "no_sync", "permutation", "plot", "print",
     "print_freq", "rand", "randint", "randn", "random", "refresh", "repeat", "requires_grad_", "result",
     "save_image", "savefig", "scale", "select", "set_description", "set_epoch", "set_postfix", "set_postfix_str",
     "shuffle", "synchronize", "unwrap_model", "view_as", "warning", "write"}
)  # fmt: skip
#: modules whose functions leave their arguments alone, but for the ones that end in an underscore
PURE_LIBRARIES = frozenset(
    {"torch", "numpy", "math", "random", "os", "sys", "time", "json", "copy", "logging", "tqdm", "wandb", "matplotlib",
     "pandas", "PIL", "torchvision", "sklearn", "scipy", "jax", "optax", "shutil", "pathlib", "datetime", "itertools",
     "functools", "collections", "pickle", "warnings", "cv2",
     "tensorflow", "keras", "transformers", "einops", "re", "gc", "heapq", "bisect", "operator", "statistics", "glob",
     "csv", "hashlib", "string", "textwrap", "uuid", "argparse", "yaml"}
)  # fmt: skip
#: functions and methods that change one of their positional arguments, and which
MUTATING_CALLS = {
    "shuffle": 0, "copyto": 0, "putmask": 0, "place": 0, "fill_diagonal": 0, "heappush": 0, "heappop": 0, "heapify": 0,
    "heapreplace": 0, "heappushpop": 0, "insort": 0, "insort_left": 0, "insort_right": 0, "setattr": 0, "delattr": 0,
    "setitem": 0, "delitem": 0, "vector_to_parameters": 1, "update_bn": 1, "swap_tensors": 0,
}  # fmt: skip
#: methods that give out what their object holds: who changes that, changes the object
HOLDING_METHODS = frozenset(
    {"parameters", "named_parameters", "buffers", "named_buffers", "modules", "named_modules", "children",
     "named_children", "get_submodule", "get_parameter", "state_dict", "values", "items", "get", "setdefault", "pop",
     "view", "numpy", "unwrap_model"}
)  # fmt: skip
#: calls that are followed into one another
CALL_DEPTH = 8
#: methods that give back the object itself
FLUENT_METHODS = frozenset({"train", "eval", "to", "cuda", "cpu", "float", "half", "double", "partial_fit"})
#: methods that move a loader of the script's own making on
ADVANCING_METHODS = frozenset({"next_batch", "get_next", "next_train_batch"})
#: receivers that hold no training state
NO_STATE_NAME = re.compile(
    r"(^|_)(log|logger|logging|writer|tb|tensorboard|wandb|viz|vis|pbar|bar|progress|timer|args|arg|opt|config|cfg|conf|hparams|device|"
    r"loader|loaders|dataloader|dataloaders|dl|dls|dataset|datasets|ds|sampler|data|batch|batches|iterator|transform|tokenizer|vocab|dictionary|plt|ax|fig|path|dir|"
    r"file|fp|fh|console|display|screen|run|experiment|tracker|sys|os|time|np|torch|random|accelerator|fabric|ctx|rank|name|mode|"
    r"split|phase|targets?|labels?|inputs?|outputs?|images?|imgs?|self_args|params_str|shape|size|batch_size|vis|epoch|epochs|step|steps|lr)($|_|\d)"
    r"|loader|logger|writer|dataset|tokenizer|_data$|^(train|test|val|valid)(ing)?_?(set|data|x|y|iter)?$|^X|^[xy](_|$)|progress",
    _I,
)
#: builtin functions that only read what they are given
READING_CALLS = frozenset(
    {"abs", "all", "any", "bin", "bool", "bytes", "callable", "chr", "complex", "dict", "divmod", "enumerate",
     "filter", "float", "format", "frozenset", "getattr", "hasattr", "hash", "hex", "id", "int", "isinstance",
     "issubclass", "len", "list", "map", "max", "min", "oct", "ord", "pow", "range", "repr", "reversed", "round",
     "set", "slice", "sorted", "str", "sum", "tuple", "type", "vars", "zip"}
)  # fmt: skip
#: functions that leave their arguments as they were; some of these write, take from an iterator, or draw random numbers
PURE_CALLS = READING_CALLS | frozenset(
    {"DataLoader", "Variable", "accuracy", "array", "asarray", "asdict", "autocast", "binary_cross_entropy",
     "binary_cross_entropy_with_logits", "cat", "chain", "clip_grad_norm", "clip_grad_norm_", "clip_grad_value_",
     "copy", "count", "cross_entropy", "deepcopy", "display", "exp", "from_numpy", "imshow", "is_available",
     "islice", "iter", "log", "log_softmax", "make_grid", "max_", "mean", "mse_loss", "next", "nll_loss", "no_grad",
     "ones", "ones_like", "open", "perf_counter", "pformat", "pprint", "print", "rand", "randn", "relu", "save",
     "save_checkpoint", "save_image", "save_model", "sigmoid", "softmax", "sqrt", "stack", "super", "synchronize",
     "tensor", "time", "tqdm", "trange", "zeros", "zeros_like"}
)  # fmt: skip
#: classes whose instances hold no state that training changes
STATELESS_CLASS = re.compile(
    r"^(CrossEntropyLoss|NLLLoss|MSELoss|BCELoss|BCEWithLogitsLoss|L1Loss|SmoothL1Loss|KLDivLoss|HuberLoss|Softmax|LogSoftmax|Sigmoid|"
    r"DataLoader|Path|PosixPath|ArgumentParser|Namespace|SummaryWriter|device|Tensor|tensor|arange|parse_args|getLogger|time|perf_counter)$"
)

# -- what a replay may leave out --------------------------------------------------------------------------------------

#: libraries (and their parts) whose calls leave nothing behind but what a checkpoint restores, random numbers and files
RESTORABLE_LIBRARY = re.compile(
    r"^(torch(?!\.(distributed|multiprocessing|backends|hub|jit|compile|cuda(?!\.(empty_cache|synchronize|memory_\w+|"
    r"max_memory_\w+|is_available|device_count|amp\.autocast))|profiler))|numpy|math|random|time|json|copy|pandas|"
    r"PIL|torchvision|sklearn|scipy|torchmetrics|tqdm|itertools|functools|collections|operator|statistics|"
    r"pickle|csv|datetime|pprint|einops|shutil|pathlib|os\.(path|makedirs|mkdir|remove|rename|replace|listdir|getcwd|"
    r"getenv|environ\.get))\b"
)
#: functions and methods that give a number or a text, or nothing: no object that anything else holds
SCALAR_CALLS = frozenset(
    {"item", "len", "float", "int", "str", "bool", "round", "format", "repr", "isinstance", "hasattr", "id", "range",
     "time", "perf_counter", "tolist", "numel", "dim", "size", "exists", "join", "strftime", "print", "is_available",
     "isfile", "isdir", "startswith", "endswith", "lower", "upper", "strip", "split", "replace", "get_last_lr", "hash",
     "log", "info", "debug", "warning", "isnan", "isinf", "isfinite", "issubclass", "ord", "chr", "title", "count"}
)  # fmt: skip
#: libraries whose calls draw pictures
DRAWING_LIBRARY = re.compile(r"^(matplotlib(?!\.(use$|rc|pyplot\.switch))|seaborn)\b")
#: functions that switch something of a library on or off, or hand it a function of the program
SWITCHING_NAME = re.compile(
    r"^(set_|use_|switch_|enable|disable|register|install|init$|init_process|unregister|reset|close$|chdir|filterwarnings|"
    r"simplefilter|basicConfig|signal|atexit|compile|backward$|grad$)|hook"
)
#: functions and methods that draw random numbers, or set what they are drawn from
DRAWING_NAME = re.compile(
    r"rand|shuffle|permutation|choice|sampl|dropout|normal|uniform|bernoulli|multinomial|poisson|exponential|geometric|"
    r"cauchy|kaiming|xavier|trunc_|orthogonal|noise|seed|gumbel|augment|transform|generate|loader|^next$|^iter$",
    _I,
)
#: variables that hold a loss or a metric
LOSS_NAME = re.compile(r"criterion|loss|^mse$|^bce$|^ce$|metric|accuracy", _I)
#: methods, besides `PURE_METHODS`, whose effects are on their object alone, or on files
RESTORABLE_METHODS = frozenset(
    {"append", "extend", "insert", "pop", "popleft", "appendleft", "update", "add", "discard", "setdefault", "clear",
     "sort", "reverse", "eval", "train", "zero_grad", "step", "load_state_dict", "forward", "add_text", "add_figure",
     "add_images", "log_metrics", "legend", "title", "xlabel", "ylabel", "set_title", "set_xlabel", "set_ylabel",
     "grid", "imshow", "subplots", "scatter", "hist", "to_csv", "to_json", "save", "dump", "strftime", "average",
     "data", "mul_", "add_", "copy_", "zero_", "fill_", "clamp", "clamp_", "square", "predict", "predict_proba",
     "score"}
)  # fmt: skip

# -- what comes from outside the program ------------------------------------------------------------------------------

#: calls (by dotted name) whose value is never the same again, and what is said of them; `id` is the builtin
OUTSIDE: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "reads the clock",
        re.compile(
            r"^(time\.((time|perf_counter|monotonic|process_time|thread_time|clock_gettime)(_ns)?|clock)|timeit\.(default_timer|timeit)|"
            r"datetime\.(datetime\.(now|today|utcnow)|date\.today)|(pandas\.Timestamp|arrow|pendulum)\.(now|today|utcnow)|"
            r"torch\.cuda\.Event)$"
        ),
    ),
    (
        "reads what is the process's own",
        re.compile(
            r"^(id|os\.(getpid|getppid|times)|threading\.(get_ident|get_native_id)|resource\.getrusage|"
            r"tracemalloc\.get_traced_memory)$"
        ),
    ),
    (
        "draws what no seed determines",
        re.compile(r"^(os\.(urandom|getrandom)|uuid\.(uuid[1467]|getnode)|secrets\.(?!compare_digest)\w+|random\.SystemRandom)$"),
    ),
    (
        "reads the machine's load",
        re.compile(
            r"^(os\.getloadavg|psutil\..+|pynvml\.\w+|shutil\.disk_usage|torch\.cuda\.(\w+\.)?((max_)?memory_(allocated|reserved|cached)|"
            r"memory_(stats|stats_as_nested_dict|summary|snapshot|usage)|mem_get_info|utilization|temperature|power_draw|clock_rate))$"
        ),
    ),
    (
        "reads the machine's name",
        re.compile(r"^(socket\.(gethostname|getfqdn)|platform\.(node|uname)|os\.uname)$"),
    ),
    (
        "takes a temporary name",
        re.compile(r"^tempfile\.(mkstemp|mkdtemp|mktemp|NamedTemporaryFile|TemporaryDirectory|TemporaryFile|SpooledTemporaryFile)$"),
    ),
)  # fmt: skip
#: functions that read the clock where they are given no time: the number of arguments that takes
OUTSIDE_BY_DEFAULT = {"time.ctime": 1, "time.localtime": 1, "time.gmtime": 1, "time.asctime": 1, "time.strftime": 2}
#: functions (builtins, and of libraries) whose value is made of their arguments' values, and of nothing else of them
CONVERTING = re.compile(
    r"^(abs|bin|bool|bytes|complex|divmod|float|format|hash|hex|int|len|list|max|min|oct|ord|pow|repr|reversed|round|set|"
    r"sorted|str|sum|tuple|(math|numpy|statistics|time|datetime|decimal|fractions|hashlib)\.[\w.]+|uuid\.(uuid[35]|UUID)|"
    r"os\.(path\.\w+|fspath)|torch\.(tensor|as_tensor)|json\.dumps|pathlib\.Path)$"
)

# -- loops owned by a framework ---------------------------------------------------------------------------------------

#: (package roots, methods that run the loop, what to call it, what to use instead)
MANAGED: tuple[tuple[frozenset[str], frozenset[str], str, str], ...] = (
    (
        frozenset({"pytorch_lightning", "lightning"}),
        frozenset({"fit"}),
        "Lightning's Trainer.{method}",
        "Trainer(..., logger=FlorLogger(), callbacks=[FlorCallback()]), both from flor_runtime.integrations.lightning,",
    ),
    (
        frozenset({"transformers", "trl", "sentence_transformers", "setfit"}),
        frozenset({"train"}),
        "the Hugging Face Trainer.{method}",
        "Trainer(..., callbacks=[FlorCallback()]), from flor_runtime.integrations.transformers,",
    ),
    (
        frozenset({"ignite"}),
        frozenset({"run"}),
        "an ignite Engine.{method}",
        "an ignite event handler (trainer.on(Events.EPOCH_COMPLETED))",
    ),
    (
        frozenset({"mmengine", "mmcv", "detectron2"}),
        frozenset({"train", "run"}),
        "a Runner's {method}",
        "a hook of the runner (register_hook)",
    ),
    (
        frozenset({"fastai"}),
        frozenset({"fit", "fit_one_cycle", "fine_tune"}),
        "fastai's Learner.{method}",
        "a fastai Callback",
    ),
    (frozenset({"skorch"}), frozenset({"fit", "partial_fit"}), "skorch's {method}", "a skorch.callbacks.Callback"),
    (frozenset({"catalyst"}), frozenset({"train"}), "a catalyst Runner.{method}", "a catalyst Callback"),
    (frozenset({"xgboost"}), frozenset({"train", "fit"}), "xgboost's {method}", "an xgboost.callback.TrainingCallback"),
    (frozenset({"lightgbm"}), frozenset({"train", "fit"}), "lightgbm's {method}", "a callback in callbacks=[...]"),
    (
        frozenset({"stable_baselines3"}),
        frozenset({"learn"}),
        "stable-baselines3's {method}",
        "a stable_baselines3 BaseCallback",
    ),
    (frozenset({"ultralytics"}), frozenset({"train"}), "ultralytics' {method}", "model.add_callback"),
    (
        frozenset({"keras", "tensorflow", "tf_keras"}),
        frozenset({"fit", "fit_generator"}),
        "Keras' model.{method}",
        "model.fit(..., callbacks=[FlorCallback()]), from flor_runtime.integrations.keras,",
    ),
    (frozenset({"sklearn"}), frozenset({"fit"}), "scikit-learn's {method}", "partial_fit in a loop of your own"),
)
#: modules whose callbacks tell flor of epochs and steps, so that nothing has to be said of such a loop
CALLBACKS = re.compile(r"^flor_runtime\.integrations\.")
#: what comes from these modules has a `fit` that prepares data, groups it or tries out models
PREPARES_MODULE = re.compile(
    r"^sklearn\.(preprocessing|feature_extraction|feature_selection|decomposition|impute|compose|cluster|manifold|"
    r"random_projection|kernel_approximation|model_selection)\."
)
#: the same, by the name of a class or of a variable; an autoencoder is a model
PREPARES_NAME = re.compile(
    r"(Scaler|Vectorizer|Imputer|Binarizer|Discretizer|Tokenizer|(Label|One_?Hot|Ordinal|Target)_?Encoder|"
    r"(Column|Function|Power|Quantile|Tfidf)_?Transformer)\d*$",
    _I,
)
