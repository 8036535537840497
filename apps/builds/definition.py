"""Whether a build ran as its project defines it.

StartBuild accepts overrides of nearly everything, and the build's status says nothing of them.
"""

from apps.aws.codebuild import BuildInfo, ProjectInfo

SHOWN = 120  # characters of a value


def deviations(*, build: BuildInfo, project: ProjectInfo) -> list[str]:
    """How a build differed from its project's definition, for people; empty when it did not.

    Compared is the project as it is defined now: CodeBuild keeps no older definitions. The version of the
    source is what a build is about, so it is no deviation. Values of variables may be secret and are not
    repeated.
    """
    found = []
    ran, defined = build.definition.settings, project.definition.settings
    for name in sorted(ran.keys() | defined.keys()):
        was, should = ran.get(name, ""), defined.get(name, "")
        if was != should:
            found.append(f"its {name} was {_shown(was)} instead of {_shown(should)}")
    if build.debug_session:
        found.append("it ran with a debug session, in which somebody could type commands")
    variables = project.definition.variables
    for name, variable in sorted(build.definition.variables.items()):
        if name not in variables:
            found.append(f"its environment had {name}, which the project does not define")
        elif variable != variables[name]:
            found.append(f"its {name} differed from the project's")
    for name in sorted(variables.keys() - build.definition.variables.keys()):
        found.append(f"its environment lacked the project's {name}")
    if found and build.started_at and project.modified_at and project.modified_at > build.started_at:
        found.append(f"the project was changed at {project.modified_at:%Y-%m-%d %H:%M} UTC, after it began")
    return found


def _shown(value: str) -> str:
    if not value:
        return "nothing"
    first = value.partition("\n")[0]
    return f"'{first[:SHOWN]}…'" if len(first) > SHOWN or first != value else f"'{value}'"
