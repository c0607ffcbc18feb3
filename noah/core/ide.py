"""Run configurations that point a debugger at a session's address: host, port and name in, the file's text out.

None of them may end the JVM when the debugger is closed, and none needs the gateway to be anything but host and port.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from xml.sax.saxutils import escape

TIMEOUT = 30_000  # milliseconds that VS Code waits for the JVM; its own 10 s are short for a line by VPN

# What XML 1.0 has no way to write, not even escaped.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def intellij(host: str, port: int, name: str) -> str:
    """A shared run configuration: `.run/NAME.run.xml`."""
    return f"""\
<component name="ProjectRunConfigurationManager">
  <configuration default="false" name="{_xml(name)}" type="Remote">
    <option name="USE_SOCKET_TRANSPORT" value="true" />
    <option name="SERVER_MODE" value="false" />
    <option name="SHMEM_ADDRESS" />
    <option name="HOST" value="{_xml(host)}" />
    <option name="PORT" value="{port}" />
    <option name="AUTO_RESTART" value="false" />
    <RunnerSettings RunnerId="Debug">
      <option name="DEBUG_PORT" value="{port}" />
      <option name="LOCAL" value="false" />
    </RunnerSettings>
    <method v="2" />
  </configuration>
</component>
"""


def vscode(host: str, port: int, name: str) -> str:
    """One of the "configurations" of `.vscode/launch.json`."""
    configuration = {
        "type": "java",
        "request": "attach",
        "name": name,
        "hostName": host,
        "port": port,
        "timeout": TIMEOUT,
        "projectName": name.partition(" ")[0],
    }
    return json.dumps(configuration, indent=2) + "\n"


def eclipse(host: str, port: int, name: str) -> str:
    """A launch configuration: `NAME.launch`."""
    launching = "org.eclipse.jdt.launching"
    # ALLOW_TERMINATE: Eclipse's "Terminate" would else be VirtualMachine.Exit, the end of somebody's pod.
    return f"""\
<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<launchConfiguration type="{launching}.remoteJavaApplication">
  <booleanAttribute key="{launching}.ALLOW_TERMINATE" value="false"/>
  <mapAttribute key="{launching}.CONNECT_MAP">
    <mapEntry key="hostname" value="{_xml(host)}"/>
    <mapEntry key="port" value="{port}"/>
  </mapAttribute>
  <stringAttribute key="{launching}.PROJECT_ATTR" value="{_xml(name.partition(" ")[0])}"/>
  <stringAttribute key="{launching}.VM_CONNECTOR_ID" value="{launching}.socketAttachConnector"/>
</launchConfiguration>
"""


def jdb(host: str, port: int, name: str) -> str:
    """The command line. jdb has no use for the name."""
    return f"jdb -attach {f'[{host}]' if ':' in host else host}:{port}\n"


@dataclass(frozen=True, slots=True)
class Format:
    text: Callable[[str, int, str], str]
    suffix: str  # of the file
    content_type: str


FORMATS: Mapping[str, Format] = {
    "intellij": Format(intellij, ".run.xml", "application/xml"),
    "vscode": Format(vscode, ".json", "application/json"),
    "eclipse": Format(eclipse, ".launch", "application/xml"),
    "jdb": Format(jdb, ".txt", "text/plain"),
}


def filename(kind: str, name: str) -> str:
    """A file's name that is one on every system, and can stand in a header."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:100]
    return (stem or "noah") + FORMATS[kind].suffix


def _xml(text: str) -> str:
    return escape(_NO_XML.sub("\ufffd", text), {'"': "&quot;", "\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})
