"""From a folder of sites to sites that are ready: `discover`, `open_sites`, `pooled`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from sammit.config import DataConfig
from sammit.data.cache import Cache
from sammit.data.layouts import Found, find_cases, find_sites, layout_of
from sammit.data.settings import Settings, settings_for
from sammit.data.site import Site
from sammit.errors import UserError, nearest
from sammit.policy import SitePolicy, load_policy
from sammit.vocabulary import Batch, Case, Loaded, Part


def discover(config: DataConfig, masks: bool = True, strict: bool = True) -> list[Site]:
    """The sites under `config.root`, sorted by name, not yet split.

    A root that is itself a site counts as one, and one that lists several sites (`manifest.csv`) as those. Folders
    whose name starts with a dot are passed over.

    Args:
        config: the recipe's `[data]`.
        masks: whether every image needs a mask.
        strict: raise at the first problem; otherwise sites carry theirs in `problems`.

    Raises:
        UserError: no such root, an unknown name in `config.sites`, a folder of no known layout, or a file that does
            not fit.
    """
    if not config.root:
        raise UserError("data.root: no folder of sites is named; set it in the recipe or with --data")
    root = Path(config.root).expanduser()
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder; set data.root or --data to a folder of sites")
    cache = Cache(config.cache)
    layout, listed = find_sites(root, settings_for(config, root))
    if listed:
        settings = settings_for(config, root)
        return [
            _site(name, layout, listed[name], settings, cache, load_policy(root / name), masks, strict)
            for name in _chosen(listed, root, config)
        ]
    return [_open(folder, root, config, cache, masks, strict) for folder in site_folders(root, config)]


def site_folders(root: Path, config: DataConfig) -> list[Path]:
    """The folders of the sites that `config.sites` names, or of all."""
    if layout_of(root, settings_for(config, root)):
        folders = {root.resolve().name: root}
    else:
        folders = {path.name: path for path in sorted(root.iterdir()) if path.is_dir() and path.name[0] not in "._"}
    if not folders:
        raise UserError(f"{root}: holds no folder; a data root is a folder of sites, or a site with images/ and masks/")
    return [folders[name] for name in _chosen(folders, root, config)]


def _chosen(known: Iterable[str], root: Path, config: DataConfig) -> list[str]:
    """The names of the sites that `config.sites` asks for, or of all, sorted."""
    known = list(known)
    for name in config.sites:
        if name not in known:
            raise UserError(f"data.sites: there is no site '{name}' in {root}: {nearest(name, known)}")
    return sorted(config.sites or known)


def _open(folder: Path, root: Path, config: DataConfig, cache: Cache, masks: bool, strict: bool) -> Site:
    settings = settings_for(config, *([root] if folder == root else [root, folder]))
    layout, found = find_cases(folder, settings)
    return _site(folder.resolve().name, layout, found, settings, cache, load_policy(folder), masks, strict)


def _site(
    name: str,
    layout: str,
    found: Found,
    settings: Settings,
    cache: Cache,
    policy: SitePolicy,
    masks: bool,
    strict: bool,
) -> Site:
    bare = [case for case in found.cases if masks and not case.masks]
    lost = [f"{case.image[0]}: has no mask; add one, or remove the image" for case in bare]
    problems = [*found.problems, *lost]
    if strict and problems:
        more = f" (and {len(problems) - 1} more; `sammit data check` lists all)" if len(problems) > 1 else ""
        raise UserError(problems[0] + more)
    cases = [replace(case, site=name) for case in found.cases if not (masks and not case.masks)]
    return Site(name, replace(found, cases=cases, problems=problems), settings, cache, layout, policy)


def open_sites(config: DataConfig, seed: int, whole: tuple[str, ...] = (), unlabelled: bool = False) -> list[Site]:
    """The sites under `config.root`, split by patient, all with the same structures.

    Args:
        config: the recipe's `[data]`.
        seed: the experiment's.
        whole: sites that take no part in training: all their cases are test.
        unlabelled: whether training draws images without labels too; see `Site.split`.

    Raises:
        UserError: as `discover`; an unknown name in `whole` or `data.label_kinds`; sites with different structures;
            too few patients.
    """
    sites = discover(config)
    names = [site.name for site in sites]
    for name in whole:
        if name not in names:
            raise UserError(f"evaluation.unseen: there is no site '{name}': {nearest(name, names)}")
    for name in config.label_kinds:
        if name not in names:
            raise UserError(f"data.label_kinds: there is no site '{name}': {nearest(name, names)}")
    _agree(sites)
    return [site.split(seed, site.name in whole, unlabelled) for site in sites]


def open_site(name: str, config: DataConfig) -> Site:
    """One site, under the name that others know it by: the one in `config.root`, or its folder there; not yet split.

    Raises:
        UserError: as `discover`; there are several sites, none of that name.
    """
    found = discover(config)
    own = found if len(found) == 1 else [site for site in found if site.name == name]
    if not own:
        names = ", ".join(site.name for site in found)
        raise UserError(f"{config.root}: holds the sites {names}, none is '{name}'; name the folder of one")
    return own[0].named(name)


def _agree(sites: list[Site]) -> None:
    for site in sites[1:]:
        if site.structures != sites[0].structures:
            ours, theirs = ", ".join(site.structures), ", ".join(sites[0].structures)
            raise UserError(
                f"site '{site.name}' has the structures {ours}, site '{sites[0].name}' {theirs}: "
                "name the same for all in data.structures"
            )


class PooledSite:
    """Several sites as one, for centralised training; fulfils `vocabulary.SiteData`."""

    def __init__(self, sites: list[Site]) -> None:
        self.name, self.sites = "pooled", sites
        self.structures = sites[0].structures
        self.settings, self.view = sites[0].settings, sites[0].view
        self.policy = SitePolicy()  # each site has been asked before its images were pooled

    def cases(self, part: Part) -> list[Case]:
        """The cases of a part, site after site."""
        return [case for site in self.sites for case in site.cases(part)]

    def samples(self, part: Part) -> int:
        """Images or slices in a part."""
        return sum(site.samples(part) for site in self.sites)

    def batches(self, steps: int, batch_size: int, key: tuple[object, ...]) -> Iterator[Batch]:
        """`steps` training batches over the units of all sites, each seen equally; a pure function of `key`."""
        from sammit.data.loaders import draw

        units = [unit for site in self.sites for unit in site.units()]
        unlabelled = [unit for site in self.sites for unit in site.unlabelled_units()]
        return draw(units, self.settings.config, steps, batch_size, key, unlabelled)

    def load(self, case: Case) -> Loaded:
        """One case in native geometry."""
        return next(site for site in self.sites if site.name == case.site).load(case)


def pooled(sites: list[Site]) -> PooledSite:
    """Split sites as one; raises UserError where their structures differ or there is none."""
    if not sites:
        raise UserError("there is no site to pool: name some in data.sites")
    _agree(sites)
    return PooledSite(sites)
