"""`saccade attack certify`: on how many pictures of a data set no change at all fools a network."""

import json
from typing import Annotated, Any

import typer

from saccade import console
from saccade.cli_attack import Seed, attack, test_pictures
from saccade.console import Device, Json

__all__ = ["attack"]  # with this command added


@attack.command(
    epilog="Examples: `saccade attack certify cifar-certified --data cifar10` · "
    "`saccade attack certify runs/noisy/best.safetensors --data cifar10 --method smoothing --std 0.25`"
)
def certify(
    network: Annotated[str, typer.Argument(help="A name of `saccade models`, or a weight file.")],
    data: Annotated[str, typer.Option(help="A name of `saccade data`, scenes, or a folder of class folders.")],
    method: Annotated[
        str,
        typer.Option(help="ibp, crown-ibp, crown (bounds, ever tighter); exact (a proof or a change); smoothing (L2)."),
    ] = "crown",
    eps: Annotated[
        str, typer.Option(help="The most that each value may change, as 2/255; not for smoothing.")
    ] = "2/255",
    count: Annotated[int, typer.Option(min=1, help="So many test pictures, drawn at random.")] = 200,
    time_limit: Annotated[float, typer.Option(min=0, help="exact: seconds for each picture.")] = 60.0,
    std: Annotated[float, typer.Option(min=0, help="smoothing: deviation of the noise.")] = 0.25,
    samples: Annotated[int, typer.Option(min=1, help="smoothing: noises for each picture.")] = 1000,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """On how many pictures of a data set is it proved that no change at all fools the network?

    Bounds are for small networks that were trained for them (`saccade train cifar-certified`); smoothing takes any,
    trained with noise, and answers for what the network says most often under noise.
    """
    from saccade.attack.certify import smoothed, survey
    from saccade.attack.evaluate.suites import budget
    from saccade.attack.evaluate.wilson import Share
    from saccade.engine.precision import choose_device
    from saccade.networks import load

    found = load(network).to(choose_device(device))
    x, labels = (v.to(found.mean.device) for v in test_pictures(found, network, data, count, seed))
    facts: dict[str, Any] = {"network": network, "data": data, "method": method}
    if method == "smoothing":
        answer = smoothed(found, x, std=std, samples=samples, seed=seed)
        radii = [std * k / 2 for k in range(8)]
        shares = {f"L2 {r:g}": Share(int(answer.certified(labels, r).sum()), len(x)) for r in radii}
        shares["abstained"] = Share(int((answer.said < 0).sum()), len(x))
        facts |= {"std": std, "samples": samples}
    else:
        facts["eps"] = budget(eps)
        with console.counting("certifying") as progress:
            result = survey(found, x, labels, facts["eps"], method=method, time_limit=time_limit, progress=progress)
        shares = result.shares()
        if method != "exact":
            del shares["fooled"]
    if as_json:
        typer.echo(json.dumps(facts | {name: share.as_dict() for name, share in shares.items()}))
        return
    for name, share in shares.items():
        typer.echo(f"{name}: {share}")
