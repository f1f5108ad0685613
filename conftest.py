"""Settings of pytest for the whole repository: what nbval does not compare between two runs of a notebook."""


def pytest_collectstart(collector):
    """Leave out of the comparison what differs between equal runs; everything else is compared to the letter."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += (
            "stderr",
            "text/html",
            "application/javascript",
            "application/vnd.jupyter.widget-view+json",
        )
