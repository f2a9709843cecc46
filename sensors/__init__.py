"""What starts something by itself: sensors, schedules, notices.

Belongs here: when, and how often. Not here: what then runs (assets). A sensor's decision is a pure function beside it.
"""

__all__: list[str] = []
