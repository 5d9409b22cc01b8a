"""The shipped Containerfile and kubernetes.yaml: as their own tools judge them, and as the code would have them."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hookd.core.settings import Settings
from hookd.core.sizing import container_mib, report_bytes_max
from hookd.flow.final_report import ACCOUNT_SECONDS_MAX

CONFIG = Path(__file__).parents[1] / "config"
DEFAULTS = Settings()
MANIFEST = list(yaml.safe_load_all((CONFIG / "kubernetes.yaml").read_text()))
USER_ID = 10001


def judged(*command: str) -> None:
    """Skips where the tool is not there."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]}")
    ended = subprocess.run(command, cwd=CONFIG, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def one(kind: str, name: str = "hookd") -> dict[str, Any]:
    (found,) = [each for each in MANIFEST if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return dict(found)


def test_manifest_is_valid() -> None:
    """By the schemas of Kubernetes itself; unknown fields are mistakes."""
    judged("kubernetes-validate", "--strict", "kubernetes.yaml")


def test_containerfile_is_clean() -> None:
    """As hadolint judges it."""
    judged("hadolint", "Containerfile")


def in_kubernetes(text: str) -> str:
    """haproxy.cfg with the names of the pods, which have new addresses again and again."""
    text = text.replace("127.0.0.1:8080", "*:8080").replace("127.0.0.1:8405", "*:8405")
    text = re.sub(r"127\.0\.0\.1:808([123])", r"hookd-\1.hookd:8080", text)
    text = re.sub(r"\b808([123])\b", r"\1", text).replace("hookd@", "hookd-")
    resolved = "    default-server resolvers dns init-addr last,libc,none\n\nresolvers dns\n    parse-resolv-conf\n"
    return text.replace("\nfrontend api\n", f"\n{resolved}\nfrontend api\n", 1)


def test_proxy_in_kubernetes_is_the_shipped_one() -> None:
    """But for names and addresses; where one is changed, so is the other."""
    assert one("ConfigMap", "hookd-haproxy")["data"]["haproxy.cfg"] == in_kubernetes(
        (CONFIG / "haproxy.cfg").read_text()
    )


def test_pod_has_the_memory_the_time_and_the_disk_that_the_defaults_may_take() -> None:
    """A limit below the sum ends in a kill; a grace below the drain and the report in a report that is not whole."""
    pod = one("StatefulSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"memory": f"{container_mib(DEFAULTS)}Mi"}
    assert container["resources"]["requests"]["memory"] == f"{container_mib(DEFAULTS)}Mi"
    before_stop = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= before_stop + DEFAULTS.drain.timeout_seconds + ACCOUNT_SECONDS_MAX
    recorder = next(each for each in pod["volumes"] if each["name"] == "recorder")["emptyDir"]
    assert recorder["medium"] == "Memory"
    assert int(recorder["sizeLimit"].removesuffix("Mi")) << 20 >= DEFAULTS.recorder.bytes_max
    claim = one("StatefulSet")["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]
    assert int(claim.removesuffix("Gi")) << 30 >= DEFAULTS.drain.reports_kept * report_bytes_max(DEFAULTS)


def test_pod_may_do_nothing_but_its_work() -> None:
    """The user is the image's; nothing is written but reports and recorder."""
    pod = one("StatefulSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == USER_ID
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    written = {each["mountPath"] for each in container["volumeMounts"] if not each.get("readOnly")}
    text = (CONFIG / "Containerfile").read_text()
    assert written == set(re.findall(r"(?:STATE|RUNTIME)_DIRECTORY=(\S+)", text))
    assert f"\nUSER {USER_ID}:{USER_ID}\n" in text
    assert "\nSTOPSIGNAL SIGTERM\n" in text
    assert "--require-hashes" in text


def test_selectors_find_what_they_name() -> None:
    """A label with a slip of the pen would leave a Service without anybody behind it."""
    labels = {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"]
        for each in MANIFEST
        if each["kind"] in ("StatefulSet", "Deployment")
    }
    assert one("Service")["spec"]["selector"] == labels["hookd"]
    assert one("Service", "hookd-api")["spec"]["selector"] == labels["hookd-haproxy"]
    assert one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels["hookd"]
    assert one("StatefulSet")["spec"]["serviceName"] == "hookd"
