"""Settings of pytest for the whole repository: what nbval does not compare between two runs, and what runs first."""

from tools.run import seconds_of


def pytest_configure(config):
    """Let pytest-xdist keep the order below; it would begin with the files of the most tests."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """Put long files first, so that no core waits at the end: notebooks by their seconds, then tests in a browser."""

    def place(item):
        if item.path.suffix == ".ipynb":
            return -seconds_of(item.path)
        return -1 if item.path.stem.endswith("_in_browser") else 0

    items.sort(key=place)


def pytest_collectstart(collector):
    """Leave out of the comparison what differs between equal runs; everything else is compared to the letter."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += (
            "stderr",
            "text/html",
            "application/javascript",
            "application/vnd.jupyter.widget-view+json",
        )
