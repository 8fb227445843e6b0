"""Makes Pose2Sim ask for the kinematics backend that Config.toml names.

Run at every interpreter start by ``pose2sim_biokin.pth``, so nothing but the standard library is imported
here, and nothing but ``sys`` and ``os`` before Pose2Sim itself is: a finder at the head of ``sys.meta_path``
waits for the two modules below, lets them load as usual, wraps one function in each, and takes itself away.

* ``Pose2Sim.kinematics.kinematics_all`` is called by ``Pose2Sim.kinematics()`` and ``runAll()`` once a trial,
  with that trial's config: ``[kinematics] kinematics_backend`` there now decides who does the work.
* ``Pose2Sim.Pose2Sim.Pose2SimPipeline.runAll`` leaves out, trial by trial, what the backend replaces.

Without the key, upstream's own functions are called with the very same arguments.
"""

import os
import sys

DISABLE_VARIABLE = "POSE2SIM_BIOKIN_DISABLE"
BACKEND_KEY = "kinematics_backend"

_MARK = "__pose2sim_biokin__"  # on what was wrapped already
_SYNCHRONIZATION = "synchronization"


def is_disabled():
    """Whether the environment asks for an untouched Pose2Sim (``POSE2SIM_BIOKIN_DISABLE=1``)."""
    return os.environ.get(DISABLE_VARIABLE, "").strip().lower() not in ("", "0", "false", "no")


def install():
    """Let Config.toml choose the kinematics backend, in this process from now on.

    The package's .pth file calls it at every start of Python; calling it again changes nothing.

    Returns:
        False when ``POSE2SIM_BIOKIN_DISABLE`` is set and nothing was done, otherwise True.
    """
    if is_disabled():
        return False
    waiting = set()
    for name in _PATCHES:
        if name in sys.modules:
            _patch(sys.modules[name])
        else:
            waiting.add(name)
    # By type name: a .pth may run twice, and tests may load this file twice.
    if waiting and not any(type(finder).__name__ == _Finder.__name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder(waiting))
    return True


def uninstall():
    """Give Pose2Sim its own functions back, in this process."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != _Finder.__name__]
    for name, (path, _) in _PATCHES.items():
        owner = sys.modules.get(name)
        *parents, attribute = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent, None)
        function = getattr(owner, attribute, None)
        if hasattr(function, _MARK):
            setattr(owner, attribute, unhooked(function))


def unhooked(function):
    """Upstream's own function behind a hooked one; a function that is not hooked as it is."""
    return function.__wrapped__ if hasattr(function, _MARK) else function


def is_live():
    """Whether Pose2Sim is hooked in this process, or will be as soon as it is imported."""
    waiting = any(type(finder).__name__ == _Finder.__name__ for finder in sys.meta_path)
    module = sys.modules.get("Pose2Sim.kinematics")
    return waiting if module is None else hasattr(getattr(module, "kinematics_all", None), _MARK)


class _Finder:
    """Finds the modules to hook with the finders behind it, and has them wrapped once they are loaded."""

    def __init__(self, waiting):
        self.waiting = waiting

    def find_spec(self, fullname, path=None, target=None):
        if fullname not in self.waiting:
            return None
        for finder in list(sys.meta_path):
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = find(fullname, path, target) if find else None
            if spec is not None:
                break
        else:
            return None
        if spec.loader is not None:
            self._patch_after_load(spec.loader, fullname)
        return spec

    def _patch_after_load(self, loader, fullname):
        execute = loader.exec_module

        def exec_module(module):
            execute(module)
            if module.__name__ != fullname:  # a loader that serves several modules
                return
            loader.__dict__.pop("exec_module", None)  # the class's own again
            _patch(module)
            self.waiting.discard(fullname)
            if not self.waiting and self in sys.meta_path:
                sys.meta_path.remove(self)

        loader.exec_module = exec_module


def _patch(module):
    path, wrap = _PATCHES[module.__name__]
    owner = module
    *parents, attribute = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent, None)
    function = getattr(owner, attribute, None)
    if function is None:
        import logging

        logging.getLogger(__name__).warning(
            "pose2sim_biokin: this version of Pose2Sim has no %s.%s, so kinematics_backend in Config.toml is "
            "not seen. Please update pose2sim_biokin.",
            module.__name__,
            path,
        )
    elif not hasattr(function, _MARK):
        from functools import wraps

        wrapper = wraps(function)(wrap(function))
        setattr(wrapper, _MARK, True)
        setattr(owner, attribute, wrapper)


def _wrap_kinematics_all(kinematics_all):
    def wrapper(*args, **kwargs):
        config_dict = args[0] if args else kwargs.get("config_dict")
        backend = _backend_of(config_dict)
        if backend is None:
            return kinematics_all(*args, **kwargs)
        import logging

        logging.info(f"Kinematics backend: {backend.name}.")
        return backend.run(config_dict)

    return wrapper


def _wrap_run_all(run_all):
    def wrapper(self, *args, **kwargs):
        backends = [_backend_of(config_dict) for config_dict in self.config_dicts]
        stages = {stage for backend in backends if backend for stage in (*backend.replaces, _SYNCHRONIZATION)}
        changed = [stage for stage in sorted(stages) if hasattr(type(self), stage)]
        for stage in changed:
            setattr(self, stage, _without_replaced_trials(self, stage, backends))
        try:
            return run_all(self, *args, **kwargs)
        finally:
            for stage in changed:
                delattr(self, stage)

    return wrapper


def _without_replaced_trials(pipeline, stage, backends):
    """The stage's method for the trials that still need it; one log line for each that does not."""
    method = getattr(pipeline, stage)

    def run_stage():
        import logging

        every_trial = pipeline.config_dicts
        remaining = []
        for config_dict, backend in zip(every_trial, backends, strict=True):
            reason = _reason_to_skip(stage, config_dict, backend)
            if reason is None:
                remaining.append(config_dict)
            else:
                logging.info(f"Skipping {stage} for {_trial_name(config_dict)}: {reason}")
        if not remaining:
            return None
        pipeline.config_dicts = remaining
        try:
            return method()
        finally:
            pipeline.config_dicts = every_trial

    return run_stage


def _reason_to_skip(stage, config_dict, backend):
    if backend is None:
        return None
    if stage in backend.replaces:
        return f'not needed by kinematics backend "{backend.name}".'
    # Upstream synchronises on pose files, which are no longer made here.
    if stage == _SYNCHRONIZATION and "poseEstimation" in backend.replaces:
        if config_dict.get("biokin", {}).get("sync_offsets"):
            return "[biokin] sync_offsets are used."
        if not _has_pose_files(config_dict):
            return "there are no pose files to synchronize on; existing offsets are used, or none."
    return None


def _has_pose_files(config_dict):
    folder = os.path.join(str(config_dict.get("project", {}).get("project_dir", ".")), "pose")
    return any(name.endswith(".json") for _, _, names in os.walk(folder) for name in names)


def _trial_name(config_dict):
    folder = str(config_dict.get("project", {}).get("project_dir", "."))
    return os.path.basename(os.path.abspath(folder))


def _backend_of(config_dict):
    """The backend that a trial's config names; None when it names none, and nothing is to change."""
    section = config_dict.get("kinematics", {}) if isinstance(config_dict, dict) else {}
    if not isinstance(section, dict) or BACKEND_KEY not in section:
        return None
    from pose2sim_biokin.plugins import get_backend

    return get_backend(section[BACKEND_KEY])


_PATCHES = {
    "Pose2Sim.kinematics": ("kinematics_all", _wrap_kinematics_all),
    "Pose2Sim.Pose2Sim": ("Pose2SimPipeline.runAll", _wrap_run_all),
}
