"""Work handed to the workers of a dask cluster."""

from concurrent.futures import Future

__all__ = ["submit_to", "task_slots"]

_AHEAD = 2  # tasks that a thread of a worker has or waits for


def submit_to(client, function, *arguments):
    """Start a task on a cluster or queue it.

    dask's own executor leaves a future without an end where its result cannot be fetched.

    Parameters
    ----------
    client : `distributed.Client`
        Client of the cluster.
    function : callable
        What to run, once.
    *arguments : object
        Its arguments; futures of the client are replaced by their results.

    Returns
    -------
    `concurrent.futures.Future`
    """
    theirs = client.submit(function, *arguments, pure=False)
    ours = Future()

    async def pass_on():
        try:
            result, error = await client.gather(theirs, asynchronous=True), None
        except BaseException as raised:
            result, error = None, raised
        if ours.set_running_or_notify_cancel():
            ours.set_result(result) if error is None else ours.set_exception(error)

    ours.add_done_callback(lambda future: future.cancelled() and theirs.cancel())
    client.loop.add_callback(pass_on)
    return ours


def task_slots(client):
    """How many tasks to have submitted, which follows the size of the cluster.

    Parameters
    ----------
    client : `distributed.Client`
        Client of the cluster.

    Returns
    -------
    int
    """
    return max(_AHEAD, _AHEAD * sum(client.nthreads().values()))
