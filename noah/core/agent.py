"""The JDWP agent that a container brings by itself: which option, variable or start script does it, and its port.

What a manifest tells is read as a shell would: quotes around an option, a port that is another variable's, a default.
What no manifest tells (a variable from a ConfigMap, an ENV of the image) is not known here.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]

# Variables that a JVM, its launcher or a well-known start script reads; the first that has an agent counts.
OPTIONS = (
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS",
    *(
        "JAVA_OPTS",
        "JAVA_OPTIONS",
        "JAVA_OPTS_APPEND",
        "JAVA_ARGS",
        "JVM_OPTS",
        "JVM_ARGS",
        "CATALINA_OPTS",
        "JPDA_OPTS",
    ),
    *("ES_JAVA_OPTS", "LS_JAVA_OPTS", "KAFKA_OPTS", "KAFKA_JVM_PERFORMANCE_OPTS", "SERVER_JVMFLAGS", "JVMFLAGS"),
    *(
        "ACTIVEMQ_OPTS",
        "ARTEMIS_OPTS",
        "HADOOP_OPTS",
        "SPARK_SUBMIT_OPTS",
        "SOLR_OPTS",
        "JETTY_OPTIONS",
        "PREPEND_JAVA_OPTS",
    ),
)
# No argument and no variable of a process is longer (MAX_ARG_STRLEN of Linux): what stands behind that starts nothing.
LONGEST_TEXT = 128 << 10

# Nothing here is tried twice at one place of a long text: the name of an agent's library is looked at afterwards.
_JDWP = re.compile(r"(?:-agentlib:jdwp=|-Xrunjdwp:|-agentpath:(?P<path>[^\s=:]{1,512}+)=)(?P<options>\S{0,4096})")
_TELLING = re.compile(r"OPT|JAVA|JVM|JPDA|DEBUG|_ARGS$|ADDRESS$|PORT$")
_REFERENCE = re.compile(
    r"\$\((?P<kubelet>\w{1,128})\)|\$\{(?P<shell>\w{1,128})(?::?[-=](?P<otherwise>[^}]{0,256}))?\}|\$(?P<plain>\w{1,128})"
)
_SOMETIMES = re.compile(r"(?:^|[\s;&|(])(?:if|case|for|while)\s|&&|\|\||\$\{\w+:?\+")


@dataclass(frozen=True, slots=True)
class OwnAgent:
    """An agent that is there before anything is put in."""

    by: str  # "variable CATALINA_OPTS", "its command"
    options: Mapping[str, str]
    port: int | None  # None: it cannot be read
    certain: bool = True  # False: only sometimes, or by a variable of which it is not known who reads it

    @property
    def suspends(self) -> bool:
        """True if the JVM waits for its first debugger before it runs anything; that is also the agent's default."""
        return self.options.get("suspend", "y") == "y" and self.options.get("server", "n") == "y"


def tells_of_agent(variable: str) -> bool:
    """True for the name of a variable that may bring an agent or its port; the others of a pod may be secrets."""
    return bool(_TELLING.search(variable))


def own_agent(container: Json) -> OwnAgent | None:
    """Return the agent that a container's variables, command and arguments tell of; None when there is none."""
    variables = dict(_variables(container))
    words = _words(container)
    # Most texts are passed over by the word alone: this is asked of each container of each pod.
    for name in sorted((n for n, value in variables.items() if "jdwp" in value), key=lambda name: (_rank(name), name)):
        if (options := _jdwp_options(variables[name])) is not None:
            return _agent(f"variable {name}", options, variables, certain=name in OPTIONS)
    for word in words:
        if "jdwp" in word and (options := _jdwp_options(word)) is not None:
            return _agent("its command", options, variables, certain=not _SOMETIMES.search(word))
    return _by_script(words, variables, str(container.get("image") or ""))


def _jdwp_options(text: str) -> str | None:
    for found in _JDWP.finditer(text):
        if found["path"] is None or "jdwp" in found["path"].rpartition("/")[2]:
            return found["options"]
    return None


def _rank(name: str) -> int:
    return OPTIONS.index(name) if name in OPTIONS else len(OPTIONS)


def _variables(container: Json) -> Iterator[tuple[str, str]]:
    for each in container.get("env") or ():
        if isinstance(each, Mapping) and isinstance(each.get("value"), str) and isinstance(each.get("name"), str):
            yield each["name"], each["value"][:LONGEST_TEXT]


def _words(container: Json) -> list[str]:
    words = (*(container.get("command") or ()), *(container.get("args") or ()))
    return [str(word)[:LONGEST_TEXT] for word in words]


def _agent(by: str, text: str, variables: Mapping[str, str], *, certain: bool) -> OwnAgent:
    plain = _resolved(text, variables)
    options = dict(part.partition("=")[::2] for part in plain.split(","))
    return OwnAgent(by, options, _port(options.get("address", "")), certain)


def _resolved(text: str, variables: Mapping[str, str]) -> str:
    """Return *text* as a shell reads it, with what is known of the variables in it."""

    def value(match: re.Match[str]) -> str:
        name = match["kubelet"] or match["shell"] or match["plain"]
        return variables.get(name) or match["otherwise"] or "$"

    text = _REFERENCE.sub(value, text)
    # What ends a word of a shell ends the option.
    return re.split(r"[;&|)<>`\s]", re.sub(r"[\"'\\]", "", text), maxsplit=1)[0]


def _port(address: str) -> int | None:
    found = re.fullmatch(r"(?:.*:)?(\d{1,5})", address)
    port = int(found[1]) if found else 0
    return port if 0 < port < 65536 else None


def _by_script(words: list[str], variables: Mapping[str, str], image: str) -> OwnAgent | None:
    """Return the agent that a well-known start script adds when a word or a variable asks for it."""
    # A start script's own command line is short; the patterns are quadratic in a long one.
    text = " ".join(words[:64])[:4096]

    def agent(by: str, *names: str, otherwise: int, suspend: str = "n") -> OwnAgent:
        said = next((_resolved(variables[name], variables) for name in names if variables.get(name)), "")
        port = _port(said) if said else otherwise
        return OwnAgent(by, {"server": "y", "suspend": suspend, "address": said or str(otherwise)}, port)

    if re.search(r"catalina\.(?:sh|bat)[\"']?\s+jpda\s", text + " "):
        suspend = variables.get("JPDA_SUSPEND") or "n"
        return agent("`catalina.sh jpda`", "JPDA_ADDRESS", otherwise=8000, suspend=suspend)
    if re.search(r"(?:^|[\s/])(?:standalone|domain|kc|jboss)\.sh\b[^;&|]*\s--debug\b", text):
        said = re.search(r"--debug[ =](?:[^\s:]*:)?(\d{2,5})(?:\s|$)", text)
        return agent("its option --debug", "DEBUG_PORT", otherwise=int(said[1]) if said else 8787)
    if re.search(r"(?:^|[\s/])server[\"']?\s+debug\b", text):
        return agent(
            "`server debug`", "WLP_DEBUG_ADDRESS", otherwise=7777, suspend=variables.get("WLP_DEBUG_SUSPEND") or "y"
        )
    if re.search(r"(?:^|[\s/])mvnDebug\b", text):
        return agent("`mvnDebug`", "MAVEN_DEBUG_ADDRESS", otherwise=8000, suspend="y")
    if re.search(r"(?:^|[\s/])gradlew?\b.*\s--debug-jvm\b", text):
        return agent("its option --debug-jvm", otherwise=5005, suspend="y")
    wildfly = re.search(r"keycloak|wildfly|jboss|\beap", image + text)
    for name, port_names, otherwise in (*_SWITCHES, *(_WILDFLY_SWITCHES if wildfly else ())):
        if variables.get(name, "").strip().lower() in ("true", "y", "yes", "1", "on"):
            return agent(f"variable {name}", *port_names, otherwise=otherwise)
    return None


# Variables that make a start script add an agent, those that hold its port, and the port where none does.
_SWITCHES = (
    ("BPL_DEBUG_ENABLED", ("BPL_DEBUG_PORT",), 8000),  # buildpacks
    ("JAVA_ENABLE_DEBUG", ("JAVA_DEBUG_PORT",), 5005),  # run-java.sh
    ("JAVA_DEBUG", ("JAVA_DEBUG_PORT",), 5005),
    ("KAFKA_DEBUG", ("JAVA_DEBUG_PORT",), 5005),
)
# Anywhere else they mean something else: DEBUG is what Spring Boot logs more by.
_WILDFLY_SWITCHES = (("DEBUG_MODE", ("DEBUG_PORT",), 8787), ("DEBUG", ("DEBUG_PORT",), 8787))
