"""The Helm chart, as `tests/kubernetes/run` runs it: rendered by helm, judged by Kubernetes' OpenAPI, checkov and the collector."""

import copy
import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

import yaml

CHART = Path(__file__).parents[2] / "config" / "kubernetes"
MONITORING = CHART.parent / "monitoring"
EXAMPLE = yaml.safe_load((CHART / "example.yaml").read_text())

# Every version whose OpenAPI kubernetes-validate has.
KUBERNETES = [f"1.{minor}" for minor in range(28, 38)]

# The kinds of the Prometheus operator, of which Kubernetes knows nothing.
FOREIGN = {"PodMonitor", "PrometheusRule"}

# What checkov asks for and the chart does not do, and why.
EXCEPTIONS = {
    "CKV_K8S_11": "no limit of CPU: it would slow a backlog down and protect nobody, since requests share the node fairly",
}


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, **options)


def helm(values, *arguments):
    """What helm makes of these values."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(values, file)
        file.flush()
        return run("helm", *arguments, CHART, "--namespace", "collectors", "--values", file.name)


def render(values, release="tenants"):
    """The objects, each by its kind and name."""
    rendered = helm(values, "template", release)
    assert rendered.returncode == 0, rendered.stderr
    objects = [one for one in yaml.safe_load_all(rendered.stdout) if one]
    named = {(one["kind"], one["metadata"]["name"]): one for one in objects}
    assert len(named) == len(objects), "two objects share a name"
    return named


def changed(path, value):
    """The example with this value at a path of keys."""
    values = copy.deepcopy(EXAMPLE)
    at = values
    *parents, last = path.split("/")
    for key in parents:
        at = at.setdefault(key, {})
    at[last] = value
    return values


def checksums(values):
    sets = {name: one for (kind, name), one in render(values).items() if kind == "StatefulSet"}
    return {name: one["spec"]["template"]["metadata"]["annotations"] for name, one in sets.items()}


class Judged(unittest.TestCase):
    def test_helm_finds_nothing_to_say(self):
        for values in [{}, EXAMPLE]:
            said = helm(values, "lint", "--strict")
            self.assertEqual(said.returncode, 0, said.stdout + said.stderr)

    def test_every_kubernetes_since_1_28_accepts_the_objects(self):
        with tempfile.TemporaryDirectory() as folder:
            files = []
            for (kind, name), one in render(EXAMPLE).items():
                if kind not in FOREIGN:
                    files.append(Path(folder) / f"{kind}-{name}.yaml")
                    files[-1].write_text(yaml.safe_dump(one))
            self.assertEqual(len(files), 9)
            for version in KUBERNETES:
                said = run("kubernetes-validate", "--strict", "--quiet", "-k", version, *files)
                self.assertEqual(said.returncode, 0, f"{version}: {said.stdout}{said.stderr}")
            # It does find what is wrong.
            files[0].write_text(files[0].read_text() + "surplus: true\n")
            said = run("kubernetes-validate", "--strict", "--quiet", "-k", version, files[0])
            self.assertNotEqual(said.returncode, 0)

    def test_checkov_finds_nothing_but_what_has_a_reason(self):
        with tempfile.TemporaryDirectory() as folder:
            rendered = Path(folder) / "rendered.yaml"
            rendered.write_text(yaml.safe_dump_all(render(EXAMPLE).values()))
            said = run("checkov", "--file", rendered, "--framework", "kubernetes", "--skip-download", "--output", "json")
            report = json.loads(said.stdout)
        failed = {check["check_id"]: check["check_name"] for check in report["results"]["failed_checks"]}
        # No more, and no exception that is not needed any more.
        self.assertEqual(failed.keys(), EXCEPTIONS.keys(), failed)
        self.assertGreater(report["summary"]["passed"], 150)

    def test_the_collector_accepts_the_configuration_that_the_chart_makes(self):
        objects = render(EXAMPLE)
        for name, collector in EXAMPLE["collectors"].items():
            with tempfile.TemporaryDirectory() as folder:
                self.lay_out(Path(folder), objects, name)
                said = run(os.environ["COLLECTOR"], "check", "--offline", cwd=folder)
                self.assertEqual(said.returncode, 0, said.stdout + said.stderr)
                self.assertIn(f"{1 + len(collector.get('inputs', {}))} output", said.stdout)

    def lay_out(self, folder, objects, name):
        """The folder as the pod has it, with made-up certificates and secrets."""
        for part in ["config/inputs.d", "certs", "credentials"]:
            (folder / part).mkdir(parents=True)
        name = f"tenants-exchange-reports-collector-{name}"
        config = objects["ConfigMap", name]["data"]
        (folder / "config/config.yaml").write_text(config["config.yaml"])
        for file, text in objects["ConfigMap", f"{name}-inputs"]["data"].items():
            (folder / "config/inputs.d" / file).write_text(text)
        key, cert = folder / "certs/key", folder / "certs/cert"
        made = run(
            *"openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 30 -subj /CN=test".split(),
            *["-keyout", key, "-out", cert],
        )
        self.assertEqual(made.returncode, 0, made.stderr)
        for owner in ["acme", "own", "b"]:
            (folder / f"certs/{owner}.key").write_text(key.read_text())
            (folder / f"certs/{owner}.crt").write_text(cert.read_text())
            (folder / f"credentials/{owner}.secret").write_text("a secret of the tenant's")
        (folder / "certs/chain.crt").write_text(cert.read_text())


class Objects(unittest.TestCase):
    def test_rules_and_dashboard_are_those_for_everybody(self):
        objects = render(EXAMPLE)
        name = "tenants-exchange-reports-collector"
        rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
        self.assertEqual(objects["PrometheusRule", name]["spec"], rules)
        dashboard = objects["ConfigMap", f"{name}-dashboard"]["data"]
        shown = json.loads(dashboard["exchange-reports-collector.json"])
        self.assertEqual(shown, json.loads((MONITORING / "dashboard.json").read_text()))

    def test_a_change_restarts_its_own_collector_and_no_other(self):
        before = checksums(EXAMPLE)
        after = checksums(changed("collectors/acme/config/globals/debug", True))
        acme, shared = sorted(before)
        self.assertNotEqual(before[acme], after[acme])
        self.assertEqual(before[shared], after[shared])

    def test_a_change_of_an_input_file_restarts_nothing(self):
        path = "collectors/shared/inputs/customer-b/inputs/customer_b/environment"
        self.assertEqual(checksums(EXAMPLE), checksums(changed(path, "production")))

    def test_no_two_collectors_select_the_same_pods(self):
        sets = [one["spec"] for (kind, _), one in render(EXAMPLE).items() if kind == "StatefulSet"]
        for one in sets:
            for other in sets:
                wanted = one["selector"]["matchLabels"].items()
                labels = other["template"]["metadata"]["labels"].items()
                self.assertEqual(wanted <= labels, one is other)

    def test_the_pod_has_no_secret_but_in_files_and_no_token(self):
        for (kind, _), one in render(EXAMPLE).items():
            if kind != "StatefulSet":
                continue
            pod = one["spec"]["template"]["spec"]
            self.assertFalse(pod["automountServiceAccountToken"])
            (container,) = pod["containers"]
            for variable in container["env"]:
                self.assertEqual(variable.keys(), {"name", "value"})
            self.assertNotIn("envFrom", container)
        self.assertNotIn("Secret", {kind for kind, _ in render(EXAMPLE)})

    def test_one_pod_each_whose_volume_stays(self):
        for (kind, _), one in render(EXAMPLE).items():
            if kind == "StatefulSet":
                spec = one["spec"]
                self.assertEqual(spec["replicas"], 1)
                retention = spec["persistentVolumeClaimRetentionPolicy"]
                self.assertEqual(set(retention.values()), {"Retain"})
                (claim,) = spec["volumeClaimTemplates"]
                self.assertEqual(claim["spec"]["accessModes"], ["ReadWriteOncePod"])

    def test_without_collectors_and_monitoring_there_is_next_to_nothing(self):
        self.assertEqual({kind for kind, _ in render({})}, {"ServiceAccount", "NetworkPolicy"})


class WrongValues(unittest.TestCase):
    """The schema refuses each, and says where."""

    WRONG = [
        ("replicas", 2),
        ("collectors/acme/replicas", 2),
        ("collectors/Acme", EXAMPLE["collectors"]["acme"]),
        ("collectors/a-name-that-is-far-too-long", EXAMPLE["collectors"]["acme"]),
        ("collectors/acme/config", None),
        ("collectors/acme/config/outputs", {}),
        ("collectors/acme/config/inputs", {}),
        ("collectors/acme/config/globals/persistence", {"type": "memory"}),
        ("collectors/acme/config/globals/monitoring", {"listen": "off"}),
        ("collectors/acme/config/inputs/acme/credentials/client_secret", "secret"),
        ("collectors/acme/config/inputs/acme/credentials/password", "secret"),
        ("collectors/shared/inputs/customer-b/inputs/customer_b/credentials/client_secret", "secret"),
        ("collectors/shared/inputs/customer-b/globals", {}),
        ("collectors/shared/inputs", {}),
        ("collectors/acme/certs", "acme-devo"),
        ("collectors/acme/certs", ["Acme_Devo"]),
        ("collectors/acme/credentials", [{"client_secret": "secret"}]),
        ("collectors/acme/env/CLIENT_SECRET", "secret"),
        ("collectors/acme/env/HTTPS_PROXY", "http://user:password@proxy:3128"),
        ("collectors/acme/storage", {"accessMode": "ReadWriteMany"}),
        ("collectors/acme/storage", {"size": "much"}),
        ("collectors/acme/resources", {"requests": {}, "limits": {}}),
        ("image/digest", "latest"),
        ("image/pullPolicy", "Sometimes"),
        ("networkPolicy/egressPorts", ["https"]),
        ("networkPolicy/monitoringFrom", [{}]),
        ("monitoring/podMonitor/interval", 30),
        ("podDisruptionBudget", {"minAvailable": 1}),
    ]

    def test_are_refused(self):
        for path, value in self.WRONG:
            with self.subTest(path=path, value=value):
                said = helm(changed(path, value), "template", "tenants")
                self.assertNotEqual(said.returncode, 0)
                self.assertIn("values don't meet the specifications of the schema", said.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
