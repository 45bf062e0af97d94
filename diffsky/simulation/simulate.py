"""Training and test pairs made by CASA: one, or many on the cores of one or many machines."""

from diffsky.simulation._casa_checks import warn_small_image
from diffsky.simulation._casa_inputs import casa_seed, observation_job
from diffsky.simulation._casa_process import require_casa, run_job
from diffsky.simulation._casa_results import observation_parts
from diffsky.simulation._pair_maker import KERNEL_BEAMS, finish_pair, resolve_sky
from diffsky.simulation._pair_run import TIMEOUT, RunOptions, run_orders
from diffsky.simulation._pair_series import PairSeries, check_stored, missing_numbers, open_store

__all__ = ["simulate_pair", "simulate_pairs"]


def simulate_pair(
    sky,
    setup,
    *,
    seed,
    noise=True,
    simulator="simobserve",
    kernel_beams=KERNEL_BEAMS,
    timeout=TIMEOUT,
    log_file=None,
    work_dir=None,
    keep_measurement_set=False,
):
    """Observe one sky with CASA and keep the truth beside the images.

    It starts CASA anew, which takes longer than the observation: for more than one pair, and for
    skies drawn from a prior, `simulate_pairs` is the faster way.

    Parameters
    ----------
    sky : `~astropy.table.QTable`, `SourceList`, `~astropy.nddata.CCDData`, array_like or path
        The true sky, before the primary beam. A table of sources as `source_columns` takes it,
        or a file of one (ECSV, VOTable); sources that do not lie whole in the image are left out,
        with a warning, and a table without rows is an empty sky. Or an image in Jy/pix: an
        array on the pixels of the setup, or a CCDData or FITS file on any pixels, which is
        brought to those of the setup (`sky_from_image`). Or sources in Jy and arcsec from the
        phase centre.
    setup : `ObservationSetup`
        What is observed how.
    seed : int or "casa-default"
        Decides the noise, 0 to 2**31 - 1; see `simulate_observation`.
    noise : bool, optional
        Add thermal noise.
    simulator : {"simobserve", "simalma"}, optional
        See `simulate_observation`.
    kernel_beams : float, optional
        The truth is convolved with a Gaussian whose FWHM is this many beams (geometric mean
        FWHM): a point between pixels has no image on them. Sources are convolved with at least
        1.7 pixels. By default 0.4, that of the default network.
    timeout : `~astropy.units.Quantity` or float, optional
        CASA is killed after this time (seconds where it has no unit). By default 300 s.
    log_file : path-like, optional
        What CASA says is appended to this file. By default it is kept only where CASA fails.
    work_dir : path-like, optional
        Folder for temporary files, made if need be. By default that of the system.
    keep_measurement_set : bool, optional
        Keep measurement sets and images in a new folder in ``work_dir``, which is then needed.

    Returns
    -------
    `SimulatedPair`
        Dirty image, PSF, primary beam, true sky, sources, uv points and all parameters.

    Raises
    ------
    ImportError
        If CASA is not installed.
    FileNotFoundError
        If the sky is a path and there is no such file.
    TypeError, ValueError
        As `simulate_observation`, `source_columns` and `sky_from_image`, before CASA is started.
    CasaError
        If CASA fails, or predicts visibilities of zero. It carries CASA's last lines and the path
        of the log.
    CasaTimeoutError
        If CASA takes longer than ``timeout``.

    Warns
    -----
    DiffskyWarning
        If the image does not hold the primary beam down to the limit of the setup, or if the sky
        does not fit into the image.
    """
    require_casa()
    seed = casa_seed(seed) if noise else None
    job = observation_job(setup, seed=seed, simulator=simulator)
    _check_kernel(kernel_beams)
    if keep_measurement_set and work_dir is None:
        raise ValueError("keep_measurement_set is True; expected a work_dir to keep it in")
    warn_small_image(job, stacklevel=2)
    resolved = resolve_sky(sky, setup)
    inputs = resolved.inputs(setup)
    arrays, values, folder = run_job(
        {**job, "task": "observe", "empty_sky": not inputs},
        inputs=inputs,
        timeout=timeout,
        log_file=log_file,
        work_dir=work_dir,
        keep=keep_measurement_set,
    )
    job["kernel_beams"] = float(kernel_beams)
    parts = observation_parts(job, setup, arrays, values)
    kept = folder / values["measurement_set"] if keep_measurement_set else None
    return finish_pair(parts, resolved, setup, kernel_beams=kernel_beams, measurement_set=kept)


def simulate_pairs(
    skies,
    setups,
    *,
    seed,
    store,
    n=None,
    noise="independent",
    simulator="simobserve",
    kernel_beams=KERNEL_BEAMS,
    client=None,
    workers=1,
    timeout=TIMEOUT,
    retries=2,
    log_dir=None,
    work_dir=None,
    progress=None,
):
    """Make many pairs with CASA, each stored when it is done.

    Pair k of a seed is always the same to rounding, whoever makes it and in whatever order: the
    stream of (seed, k) decides its sky, its set-up and its noise. Pairs that are whole in the
    store are left as they are, so the same call continues what was interrupted, and one with a
    larger ``n`` appends.

    CASA runs in processes of its own, one per thread. Each keeps the empty measurement sets of
    the set-ups that it used last (4 GiB), so that a pair takes the time of its sky, its noise and
    its image alone. The images are those of simobserve, bit by bit where a process has observed
    nothing before; otherwise CASA's uv points differ in their tenth digit.

    Parameters
    ----------
    skies : `Prior` or sequence
        A prior, from which each pair draws its sky, every source whole in the image; one in
        noise rms and beams is scaled with those of the set-up, measured on an empty sky. Or skies
        of any kind that `simulate_pair` takes: pair k has number k, from the start again after the
        last.
    setups : `ObservationSetup`, sequence or callable
        What is observed how. Of a sequence each pair draws one. A callable takes a
        `numpy.random.Generator` and returns a set-up, with a random direction for instance; then
        each pair needs an empty measurement set of its own, which takes about as long again.
    seed : int
        Which series of pairs, 0 or larger.
    store : `PairStore`, str or path-like
        Where to store them; a path is opened or made.
    n : int, optional
        Number of pairs, those in the store included. By default the number of skies; a prior
        needs it.
    noise : {"independent", "casa-default", "none"}, optional
        "casa-default" gives every pair the one realisation that simalma knows, as in D24, so that
        a network can learn it by heart: not for training. It is the only one that
        ``simulator="simalma"`` takes.
    simulator : {"simobserve", "simalma"}, optional
        The task of CASA that makes the visibilities. simalma, which D24 ran, starts from nothing
        for every pair.
    kernel_beams : float, optional
        See `simulate_pair`.
    client : `distributed.Client`, optional
        Make the pairs on the workers of a dask cluster. They need diffsky and CASA, and no disk
        in common: pairs are sent back (about 10 MB of a 512 x 512 image) and stored here. What a
        worker that dies was at is made again by another one.
    workers : int, optional
        Without a client, the number of CASA processes on this machine, of one core each.
    timeout : `~astropy.units.Quantity` or float, optional
        Time limit of CASA for one try at one pair. By default 300 s.
    retries : int, optional
        How often a pair is tried again where CASA fails or takes too long, each time with a new
        process. Default 2.
    log_dir : path-like, optional
        Folder for the logs of CASA, one per pair, on the machine that makes it. By default only
        those of pairs that failed are kept, in the folder for temporary files.
    work_dir : path-like, optional
        Folder for temporary files on the machines that run CASA. By default that of the system.
    progress : bool, optional
        Show a progress bar. By default on a terminal only.

    Returns
    -------
    `PairStore`
        The store.

    Raises
    ------
    ImportError
        If CASA is not installed.
    TypeError, ValueError
        Before CASA is started, if an argument, a set-up or a sky is none, as `simulate_pair` has
        it, or if the store holds a pair of the series made from something else.
    CasaError
        If the first 8 pairs, or 32 of them one after the other, or all that were to be made,
        failed.
    OSError
        If a pair cannot be stored; those that were stored stay.

    Warns
    -----
    DiffskyWarning
        At the end, of pairs that failed in all tries: they are left out and the warning names
        them. The same call tries them again. Also as `simulate_pair`.
    """
    require_casa()
    options = RunOptions(
        client=client,
        workers=workers,
        timeout=timeout,
        retries=retries,
        log_dir=log_dir,
        work_dir=work_dir,
        progress=progress,
    )
    _check_kernel(kernel_beams)
    series = PairSeries(
        skies=skies,
        setups=setups,
        seed=seed,
        n=n,
        noise=noise,
        simulator=simulator,
        kernel_beams=kernel_beams,
    )
    series.check(stacklevel=2)
    store = open_store(store)
    check_stored(series, store)
    orders = [(store, series, number, "") for number in missing_numbers(series, store)]
    run_orders(orders, options, total=series.n, stacklevel=2)
    return store


def _check_kernel(kernel_beams):
    if not 0 <= kernel_beams < float("inf"):
        raise ValueError(f"kernel_beams is {kernel_beams}; expected a number of 0 or more")
