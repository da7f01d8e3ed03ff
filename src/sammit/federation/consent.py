"""What a method asks of a site beside weights, and whether the site agrees: looked at before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from sammit import plugins
from sammit.errors import TellableError, UserError, nearest
from sammit.federation.guard import declaration_of
from sammit.methods.base import Method
from sammit.policy import POLICY_FILE, SitePolicy
from sammit.vocabulary import Declared, State

if TYPE_CHECKING:
    from sammit.federation.prepare import Prepared


FROM_EACH = "each round, from each site"
ALWAYS = {  # whatever the method
    "samples": "how many images or slices it trains on, its weight in the mean",
    "dice": "mean Dice of its validation cases, and of its test cases at the end",
}


@dataclass(frozen=True)
class Asked:
    """One thing beside the shared tensors.

    Attributes:
        when: which way it goes, and when.
        name: as declared, what a site may refuse.
        form: shape, type and bytes, in words.
        purpose: what for.
    """

    when: str
    name: str
    form: str
    purpose: str


def check_agreed(site: str, policy: SitePolicy, name: str, method: Method) -> None:
    """Raise TellableError where a site takes no part in a method, or refuses what travels under it.

    Args:
        site, policy: who, and what its `site.toml` says.
        name, method: what is to be run.
    """
    _check_known(site, policy, method)
    leave = "choose another method, or leave the site out with data.sites"
    if policy.methods and name not in policy.methods:
        raise TellableError(f"site '{site}' takes part in {', '.join(policy.methods)} only, not in {name}: {leave}")
    for thing, purpose in _travelling(method):
        if policy.refuses(thing):
            raise TellableError(f"site '{site}' refuses '{thing}' ({purpose}), which {name} asks for: {leave}")


def _check_known(site: str, policy: SitePolicy, method: Method) -> None:
    """Raise UserError where a policy names what there is nowhere: a refusal that is misspelt must not pass for none."""
    methods = plugins.names("methods")
    unknown = [name for name in policy.methods if name not in methods]
    if unknown:
        raise UserError(
            f"{POLICY_FILE} of site '{site}': unknown method '{unknown[0]}': {nearest(unknown[0], methods)}"
        )
    known = {thing for thing, _ in _travelling(method)}
    for name in policy.refuse:
        if _names_one_of(name, known):
            continue
        for other in methods:
            known.update(thing for thing, _ in _travelling(plugins.load("methods", other).Method()))
        if not _names_one_of(name, known):
            raise UserError(f"{POLICY_FILE} of site '{site}': no method declares '{name}': {nearest(name, [*known])}")


def _names_one_of(refused: str, known: Iterable[str]) -> bool:
    return any(SitePolicy(refuse=(refused,)).refuses(name) for name in known)


def _travelling(method: Method) -> list[tuple[str, str]]:
    """Name and purpose of everything beside weights that travels under a method."""
    declared = (*method.surveyed, *method.extras_up, *method.extras_down)
    return [*((d.name, d.purpose) for d in declared), *method.reports.items(), *ALWAYS.items()]


def asked(prepared: Prepared) -> Iterator[Asked]:
    """Everything beside the shared tensors that a prepared run sends: what is known of it before the first round."""
    method, site = prepared.method, prepared.trainers[0].name
    extras = method.orders(prepared.server, site)[1]
    yield from beside(method, prepared.template, prepared.surveys.get(site, {}), extras)


def beside(method: Method, template: State, survey: State, extras: State) -> Iterator[Asked]:
    """Everything beside the shared tensors that travels under a method.

    Args:
        method: with its options.
        template: the shared tensors' shapes and types.
        survey: what one site tells before the model is built.
        extras: what one site is sent in the first round.
    """
    ways: list[tuple[str, tuple[Declared, ...], State]] = [
        ("once, from each site, before the model is built", method.surveyed, survey),
        ("each round, to each site", method.extras_down, extras),
        (FROM_EACH, method.extras_up, {}),
    ]
    for when, declarations, known in ways:
        for declared in declarations:
            yield Asked(when, declared.name, _form(declared, known, template), declared.purpose)
    for name, purpose in {**method.reports, **ALWAYS}.items():
        yield Asked(FROM_EACH, name, "a number", purpose)


def _form(declared: Declared, known: State, shared: State) -> str:
    """Shape, type and bytes of what a declaration covers.

    Args:
        declared: the declaration.
        known: tensors of one site that are known to travel; those that the declaration covers are described.
        shared: the shared tensors, of which a family without a shape has one each.
    """
    found = [tensor for name, tensor in known.items() if declaration_of(name, (declared,))]
    if found:
        shape = _sides(tuple(found[0].shape)) if len(found) == 1 else f"{len(found)} tensors"
        return f"{shape} {declared.dtype}, {sum(tensor.nbytes for tensor in found):,} bytes"
    kind = torch.empty(0, dtype=getattr(torch, declared.dtype)).itemsize
    if declared.shape is None:
        most = kind * sum(tensor.numel() for tensor in shared.values())
        return f"a tensor for each shared one at most, {declared.dtype}, up to {most:,} bytes"
    if -1 in declared.shape:
        return f"{_sides(declared.shape)} {declared.dtype}"
    return f"{_sides(declared.shape)} {declared.dtype}, {kind * torch.Size(declared.shape).numel():,} bytes"


def _sides(shape: tuple[int, ...]) -> str:
    return " x ".join("any" if side < 0 else str(side) for side in shape) or "1"
