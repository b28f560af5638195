"""python benchmarks/explain.py

Attributions beside captum, pytorch-grad-cam and torch-cam, where these are installed. Each pair is first checked to
give the same maps (difference: its length by that of the map), then both sides run in turn in one process; the median
over rounds of the ratio of their times, with quartiles, in seconds of the process. torchvision need not be there: the
parts of it that pytorch-grad-cam imports and does not use here are stood in for.

- ours and captum with equal batches: gradient, gradient x input, guided backpropagation, SmoothGrad, integrated
  gradients, DeepLIFT;
- captum as it comes: occlusion, integrated gradients;
- Grad-CAM beside all three, Grad-CAM++ and Ablation-CAM beside pytorch-grad-cam, with the memory that Grad-CAM's graph
  records beside that of a whole forward pass.

The networks have random weights (seed 0): equal maps do not need trained ones.
"""

import statistics
import sys
import time
import types
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch
from common import arguments, prepare, table
from torch import Tensor, nn

from saccade.engine.seeding import generator
from saccade.explain import METHODS
from saccade.networks import Network, build

warnings.filterwarnings("ignore")  # captum's, about its own hooks
Side = Callable[[], Tensor]
NETWORKS = {"resnet18": ("resnet18", 224), "squeezenet": ("squeezenet1_0", 224), "tinynet": ("tinynet", 64)}


class Case:
    """A network, pictures and a target, for one pair of functions."""

    def __init__(self, network: str, batch: int, size: int | None = None) -> None:
        name, side = NETWORKS[network]
        torch.manual_seed(0)
        self.network = Network(build(name), architecture=(name, {})).eval()
        side = size or side
        self.x = torch.rand(batch, 3, side, side, generator=generator(1, batch))
        self.target = 3


def ours(case: Case, method: str, **settings: Any) -> Side:
    return lambda: METHODS[method].function(case.network, case.x, case.target, **settings)


def captum(case: Case, name: str, *, wrap: str = "", layer: nn.Module | None = None, **settings: Any) -> Side:
    """A method of captum by its class; `wrap` puts it in its NoiseTunnel."""
    import captum.attr as attr

    made = getattr(attr, name)(case.network, *([layer] if layer is not None else []))
    if wrap:
        made = getattr(attr, wrap)(made)
    return lambda: made.attribute(case.x.clone(), target=case.target, **settings).detach()


def grad_cam_package(case: Case, name: str, layer: nn.Module, **settings: Any) -> Side:
    """A method of pytorch-grad-cam by its class."""
    if "torchvision" not in sys.modules and find_spec("torchvision") is None:
        names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
        stand_in: dict[str, Any] = {name: types.ModuleType(name) for name in names}
        for part in ("Compose", "Normalize", "ToTensor"):
            setattr(stand_in["torchvision.transforms"], part, object)
        stand_in["torchvision.transforms.functional"].resize = None
        sys.modules |= stand_in
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    made = getattr(pytorch_grad_cam, name)(model=case.network, target_layers=[layer])
    for key, value in settings.items():
        setattr(made, key, value)
    targets = [ClassifierOutputTarget(case.target)] * len(case.x)
    return lambda: torch.from_numpy(made(input_tensor=case.x.clone(), targets=targets))


def torch_cam(case: Case, name: str, layer: nn.Module) -> Side:
    """A method of torch-cam by its class."""
    from torchcam import methods

    def run() -> Tensor:
        with getattr(methods, name)(case.network, target_layer=layer) as made:
            scores = case.network(case.x)
            [found] = made(case.target, scores)
        return found.detach()

    return run


def scaled(map: Tensor) -> Tensor:
    """Each map from 0 to 1, as pytorch-grad-cam and torch-cam return theirs."""
    flat = map.flatten(1)
    low, high = flat.amin(1), flat.amax(1)
    return (map - low[:, None, None]) / (high - low).clamp_min(1e-12)[:, None, None]


def last(case: Case) -> nn.Module:
    """The layer for CAMs."""
    inner = case.network.module
    found: nn.Module = inner.layer4 if hasattr(inner, "layer4") else inner.features  # type: ignore[assignment]
    return found


def pairs(smoke: bool) -> dict[str, tuple[str, Callable[[], tuple[Side, Side, Callable[[Tensor], Tensor]]]]]:
    """Key -> (package, what makes our side, their side and what is done to ours before the two are compared)."""
    size = 64 if smoke else None
    steps, samples = (8, 4) if smoke else (50, 20)

    def same(map: Tensor) -> Tensor:
        return map

    def gradient(network: str, batch: int, own: str, name: str, **theirs: Any) -> Any:
        def make() -> tuple[Side, Side, Any]:
            case = Case(network, batch, size)
            return ours(case, own), captum(case, name, **theirs), same

        return "captum", make

    def integrated(network: str, equal: bool, batch: int = 1) -> Any:
        def make() -> tuple[Side, Side, Any]:
            case = Case(network, batch, size)
            chunk = {"internal_batch_size": 10} if equal else {}
            mine = {"batch_size": 10} if equal else {}
            theirs = captum(case, "IntegratedGradients", n_steps=steps, **chunk)
            return ours(case, "integrated-gradients", steps=steps, **mine), theirs, same

        return "captum", make

    def occlusion(network: str, side: int, window: int, stride: int, batch: int) -> Any:
        def make() -> tuple[Side, Side, Any]:
            case = Case(network, 1, 32 if smoke else side)
            mine = {"batch_size": batch} if batch > 1 else {}
            theirs = captum(
                case,
                "Occlusion",
                sliding_window_shapes=(3, window, window),
                strides=(3, stride, stride),
                baselines=0.5,
                perturbations_per_eval=batch,
            )
            own = ours(case, "occlusion", window=window, stride=stride, fill=0.5, **mine)
            return own, lambda: theirs()[:, 0], same

        return "captum", make

    def noise(network: str) -> Any:
        """Both sides draw their own noise: the same estimator, no equal bits, so only the mean size is compared."""

        def make() -> tuple[Side, Side, Any]:
            case = Case(network, 1, size)
            reach = float(case.x.max() - case.x.min())
            theirs = captum(
                case,
                "Saliency",
                wrap="NoiseTunnel",
                nt_type="smoothgrad",
                nt_samples=samples,
                stdevs=0.15 * reach,
                abs=False,
            )
            own = ours(case, "smooth-grad", samples=samples, batch_size=samples)
            return (lambda: own().abs().mean()[None]), (lambda: theirs().abs().mean()[None]), None

        return "captum", make

    def cam(network: str, batch: int, own: str, package: str, name: str) -> Any:
        def make() -> tuple[Side, Side, Any]:
            case = Case(network, batch, size)
            if (
                own == "ablation-cam"
            ):  # where the score is negative the two differ on purpose: theirs turns the map over
                case.target = int(case.network(case.x)[0].argmax())
            layer = last(case)
            if package == "captum":
                mine = ours(case, own, layer=layer, enlarge=False, relu=False)
                theirs = captum(case, name, layer=layer)
                return mine, lambda: theirs()[:, 0], lambda map: map
            if package == "torchcam":
                return ours(case, own, layer=layer, enlarge=False), torch_cam(case, name, layer), scaled
            return ours(case, own, layer=layer), grad_cam_package(case, name, layer), scaled

        return package, make

    table_ = {
        "gradient/resnet18/b1": gradient("resnet18", 1, "gradient", "Saliency", abs=False),
        "gradient/resnet18/b8": gradient("resnet18", 8, "gradient", "Saliency", abs=False),
        "gradient/squeezenet/b8": gradient("squeezenet", 8, "gradient", "Saliency", abs=False),
        "gradient x input/resnet18/b8": gradient("resnet18", 8, "input-x-gradient", "InputXGradient"),
        "guided backprop/squeezenet/b8": gradient("squeezenet", 8, "guided-backprop", "GuidedBackprop"),
        "SmoothGrad, one batch/squeezenet/b1": noise("squeezenet"),
        "integrated gradients, batches of 10/squeezenet/b1": integrated("squeezenet", True),
        "integrated gradients, as it comes/squeezenet/b1": integrated("squeezenet", False),
        "integrated gradients, as it comes/resnet18/b1": integrated("resnet18", False),
        "integrated gradients, as it comes/tinynet/b1": integrated("tinynet", False),
        "integrated gradients, as it comes/tinynet/b8": integrated("tinynet", False, 8),
        "DeepLIFT/tinynet/b4": gradient("tinynet", 4, "deeplift", "DeepLift"),
        "occlusion, as it comes/resnet18 at 112/b1": occlusion("resnet18", 112, 16, 8, 1),
        "occlusion, batches of 16/resnet18 at 112/b1": occlusion("resnet18", 112, 16, 8, 16),
        "occlusion, as it comes/tinynet at 64/b1": occlusion("tinynet", 64, 8, 4, 1),
        "occlusion, batches of 16/tinynet at 64/b1": occlusion("tinynet", 64, 8, 4, 16),
        "Grad-CAM/resnet18/b8": cam("resnet18", 8, "grad-cam", "pytorch_grad_cam", "GradCAM"),
        "Grad-CAM/squeezenet/b8": cam("squeezenet", 8, "grad-cam", "pytorch_grad_cam", "GradCAM"),
        "Grad-CAM at captum/resnet18/b8": cam("resnet18", 8, "grad-cam", "captum", "LayerGradCam"),
        "Grad-CAM at torch-cam/resnet18/b8": cam("resnet18", 8, "grad-cam", "torchcam", "GradCAM"),
        "Grad-CAM++/resnet18/b8": cam("resnet18", 8, "grad-cam-plus-plus", "pytorch_grad_cam", "GradCAMPlusPlus"),
        "Ablation-CAM/resnet18/b1": cam("resnet18", 1, "ablation-cam", "pytorch_grad_cam", "AblationCAM"),
    }
    return table_  # type: ignore[return-value]


def compare(make: Callable[[], Any], rounds: int, tolerance: float) -> dict[str, Any]:
    """Check that both sides say the same, then time them in turn."""
    own, theirs, before = make()
    a, b = own(), theirs()
    a = before(a) if before is not None else a
    difference = float((a - b).norm() / b.norm())  # rounding flips a ReLU here and there
    if difference > tolerance:
        raise SystemExit(f"the two do not say the same: {difference:.2g}")
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(rounds):
        for name, side in (("ours", own), ("theirs", theirs)):
            start = time.process_time()
            side()
            seconds[name].append(time.process_time() - start)
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["theirs"], strict=True)]
    return {"difference": difference, "ratio": statistics.median(ratios), "ratios": ratios, **seconds}


def recorded(network: str, batch: int, smoke: bool) -> dict[str, Any]:
    """Bytes that autograd keeps in Grad-CAM, and in a forward pass of the whole network as it comes."""
    case = Case(network, batch, 64 if smoke else None)

    def kept(work: Callable[[], Any]) -> int:
        seen: dict[int, int] = {}
        parameters = {p.untyped_storage().data_ptr() for p in case.network.parameters()}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in parameters:
                seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            alive = work()
        del alive
        return sum(seen.values())

    whole = kept(lambda: case.network(case.x))
    part = kept(ours(case, "grad-cam", layer=last(case)))
    return {"grad_cam": part, "forward": whole, "share": part / whole}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing and can be measured here, and write the page."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(argv)
    results = prepare(options, "explain", __doc__)
    rounds = 1 if options.smoke else options.rounds
    names = {"captum": "captum", "pytorch_grad_cam": "grad-cam", "torchcam": "torchcam"}
    for key, (package, make) in pairs(options.smoke).items():
        if key not in results.cells and find_spec(package) is None:
            print(f"explain: {key} is left out: {names[package]} is not installed", flush=True)
            continue
        if key not in results.cells:
            few = min(rounds, 3) if key.startswith("Ablation") else rounds
            # SmoothGrad draws its own noise; pytorch-grad-cam adds a constant to a small denominator of Grad-CAM++
            near = 0.25 if key.startswith("SmoothGrad") else 0.05 if key.startswith("Grad-CAM++") else 0.01
            about = {"package": f"{names[package]} {version(names[package])}", "rounds": few}
            results.measure(key, about, lambda make=make, few=few, near=near: compare(make, few, near))  # type: ignore[misc]
    results.measure("memory/resnet18/b8", {}, lambda: recorded("resnet18", 8, options.smoke))
    rows, memory = [], []
    for key, cell in results.cells.items():
        values = cell["values"]
        if key.startswith("memory"):
            megabytes = (values["grad_cam"] / 1e6, values["forward"] / 1e6)
            memory.append([key.split("/", 1)[1], *(f"{each:.2f}" for each in megabytes), f"{values['share']:.2%}"])
            continue
        what, network, batch = key.split("/")
        low, middle, high = (
            statistics.quantiles(values["ratios"], n=4) if len(values["ratios"]) > 1 else values["ratios"] * 3
        )
        own, other = (statistics.median(values[side]) for side in ("ours", "theirs"))
        rows.append(
            [
                what,
                f"{network}, {batch}",
                cell["settings"]["package"],
                f"{own:.3f}",
                f"{other:.3f}",
                f"{middle:.2f} ({low:.2f} to {high:.2f})",
                f"{values['difference']:.0e}",
            ]
        )
    head = ["method", "network, batch", "beside", "ours, s", "theirs, s", "their time by ours", "difference"]
    kept = ["memory that autograd records", "Grad-CAM, MB", "a whole forward pass, MB", "share"]
    results.write_page("Attributions beside other libraries", table(head, rows) + "\n\n" + table(kept, memory))


if __name__ == "__main__":
    main()
