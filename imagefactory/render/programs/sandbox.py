"""stub"""


def problem(kind: str) -> str:
    return ""
