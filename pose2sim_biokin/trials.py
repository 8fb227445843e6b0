"""The trials of a project, each with its config as Pose2Sim merges it."""

from __future__ import annotations

from pathlib import Path

from pose2sim_biokin.errors import BiokinError


def read_configs(project: Path) -> list[dict]:
    """One merged config per trial, as Pose2Sim reads them.

    Args:
        project: folder of a trial or of a batch, or a Config.toml.

    Raises:
        BiokinError: no such folder, no Config.toml, one that cannot be read, or no trial in it.
    """
    if not project.exists():
        raise BiokinError(f"{project}: no such folder.")
    if project.is_dir() and not next(project.rglob("Config.toml"), None):
        raise BiokinError(
            f"{project.resolve()}: no Config.toml in this folder or below. A Pose2Sim project needs one; "
            "copy it from Pose2Sim's Demo_SinglePerson, or try biokin demo."
        )
    from Pose2Sim.Pose2Sim import read_config_files

    try:
        _, config_dicts = read_config_files(str(project))
    except (
        ValueError,
        OSError,
    ) as error:  # not TOML, not readable, or a trial that is not where it should be
        raise BiokinError(f"{project}: Config.toml cannot be read: {error}") from error
    if not config_dicts:
        raise BiokinError(f"{project}: no trial to run: all are in [project] exclude_from_batch.")
    for config_dict in config_dicts:
        config_dict.setdefault("project", {}).setdefault("project_dir", str(project))
    return config_dicts


def trial_folder(config_dict: dict) -> Path:
    """A trial's folder, absolute."""
    return Path(config_dict["project"]["project_dir"]).resolve()
