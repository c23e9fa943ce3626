"""Fetches the sources jars of libraries.txt by Maven and checks that each library's POM names the Apache License 2.0 and no other.

usage: fetch.py DATA_DIR   (DATA_DIR/jars/ARTIFACT-VERSION-sources.jar; DATA_DIR/licences.tsv, one line a library)
"""
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

HERE = Path(__file__).parent
APACHE = re.compile(r"\bapache\b.*\b(v(ersion )?)?2(\.0)?\b|apache\.org/licenses/LICENSE-2\.0", re.I)
ANOTHER = re.compile(r"GPL|\b(EPL|MPL|CDDL|BSD|MIT)\b|\bor\b", re.I)
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"


def coordinates(text):
    """(group, artifact, version) of each artifact of a list: lines of group, version and artifacts; # begins a comment."""
    for line in text.splitlines():
        group, version, *artifacts = line.split("#")[0].split() or (None, None)
        yield from ((group, artifact, version) for artifact in artifacts)


def project(libraries):
    """A POM that depends on the sources jars alone."""
    dependencies = "".join(f"""
    <dependency>
      <groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>
      <classifier>sources</classifier>
      <exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>
    </dependency>""" for group, artifact, version in libraries)
    return f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>training</groupId><artifactId>sources</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>{dependencies}
  </dependencies>
</project>
"""


def licences(repository, group, artifact, version):
    """What the POM, or the nearest parent that says so, names: [(name, url)]."""
    while group:
        pom = Path(repository, *group.split("."), artifact, version, f"{artifact}-{version}.pom")
        root = ElementTree.fromstring(re.sub(r'\sxmlns="[^"]*"', "", pom.read_text("utf-8", "replace"), count=1))
        named = [((node.findtext("name") or "").strip(), (node.findtext("url") or "").strip()) for node in root.findall("licenses/license")]
        if named:
            return named
        group, artifact, version = ((root.findtext(f"parent/{key}") or "").strip() for key in ("groupId", "artifactId", "version"))
    return []


def apache_alone(named):
    return bool(named) and all((APACHE.search(name) or APACHE.search(url)) and not ANOTHER.search(name) for name, url in named)


def main(data):
    libraries = list(coordinates((HERE / "libraries.txt").read_text()))
    data.mkdir(parents=True, exist_ok=True)
    (data / "pom.xml").write_text(project(libraries))
    subprocess.run(["mvn", "-q", "-B", "-f", data / "pom.xml", COPY, f"-DoutputDirectory={(data / 'jars').absolute()}"], check=True)
    repository = os.environ.get("MAVEN_REPOSITORY", Path.home() / ".m2" / "repository")
    refused = []
    with open(data / "licences.tsv", "w") as table:
        for group, artifact, version in libraries:
            named = licences(repository, group, artifact, version)
            print(f"{group}:{artifact}:{version}", "; ".join(f"{name} {url}" for name, url in named), sep="\t", file=table)
            if not apache_alone(named):
                refused.append(f"{group}:{artifact}:{version} {named}")
    if refused:
        sys.exit("not under the Apache License 2.0 alone; take them off libraries.txt:\n" + "\n".join(refused))
    print(f"{len(libraries)} libraries")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
