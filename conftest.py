"""Settings of pytest for the whole repository: what nbval does not compare between two runs, and what runs first."""

from tools.run import seconds_of


def pytest_configure(config):
    """Let pytest-xdist keep the order below; it would begin with the files of the most tests."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """Put the notebooks first, those that take longest in front, so that no core waits for one of them at the end."""
    items.sort(key=lambda item: -seconds_of(item.path) if item.path.suffix == ".ipynb" else 0)


def pytest_collectstart(collector):
    """Leave out of the comparison what differs between equal runs; everything else is compared to the letter."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += (
            "stderr",
            "text/html",
            "application/javascript",
            "application/vnd.jupyter.widget-view+json",
        )
