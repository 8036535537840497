"""Bundles, groups and deployments for tests of the embedded CodeDeploy."""

import io
import json
import tarfile
import time
import uuid

from tests.sandbox.hosts import wait_until

EVENTS = [
    "ApplicationStop",
    "DownloadBundle",
    "BeforeInstall",
    "Install",
    "AfterInstall",
    "ApplicationStart",
    "ValidateService",
]
EVENTS_WITH_TRAFFIC = [
    "BeforeBlockTraffic",
    "BlockTraffic",
    "AfterBlockTraffic",
    *EVENTS,
    "BeforeAllowTraffic",
    "AllowTraffic",
    "AfterAllowTraffic",
]
ROLE = "arn:aws:iam::123456789012:role/codedeploy"
HEADER = "version: 0.0\nos: linux\n"


def hooks(*, timeout=None, runas=None, **scripts):
    """The text of an appspec whose hooks run scripts/EVENT.sh, and the files of those scripts."""
    text = HEADER + "hooks:\n"
    files = {}
    for event, body in scripts.items():
        text += f"  {event}:\n    - location: scripts/{event}.sh\n"
        text += f"      timeout: {timeout}\n" if timeout else ""
        text += f"      runas: {runas}\n" if runas else ""
        files[f"scripts/{event}.sh"] = f"#!/bin/bash\n{body}\n"
    return text, files


def bundle(**options):
    """The files of a bundle with these hooks, as `hooks` takes them."""
    text, files = hooks(**options)
    return {"appspec.yml": text, **files}


def tar(files, *, members=(), mode="w"):
    """A tar of {name: text}; names ending in .sh are executable; `members` are TarInfos without content."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            data = text if isinstance(text, bytes) else text.encode()
            info.size = len(data)
            info.mode = 0o755 if name.endswith(".sh") else 0o644
            archive.addfile(info, io.BytesIO(data))
        for info in members:
            archive.addfile(info)
    return content.getvalue()


class Gate:
    """The body of a hook that waits on each host until it is opened."""

    def __init__(self, fleet):
        self.fleet, self.name = fleet, uuid.uuid4().hex
        self.body = (
            f"here=${{0%%/opt/codedeploy-agent/*}}/tmp/{self.name}; touch $here.started; "
            "until [ -e $here.opened ]; do sleep 0.05; done"
        )

    def started(self, host=0):
        """Whether the hook runs on a host."""
        return (self.fleet.root(host) / "tmp" / f"{self.name}.started").exists()

    def wait(self, host=0):
        """Wait until the hook runs on a host."""
        wait_until(lambda: self.started(host), 60)

    def open(self):
        """Let it end on all hosts."""
        for host in range(len(self.fleet.hosts)):
            (self.fleet.root(host) / "tmp" / f"{self.name}.opened").touch()


class Fleet:
    """An application with one group and its hosts, of one test."""

    def __init__(self, sandbox, bucket, hosts=1, **group):
        self.sandbox, self.bucket = sandbox, bucket
        self.codedeploy, self.s3 = sandbox.client("codedeploy"), sandbox.client("s3")
        self.name = f"app-{uuid.uuid4().hex[:8]}"
        self.hosts = [f"{self.name}-{number}" for number in range(hosts)]
        for host in self.hosts:
            self.register(host)
        self.codedeploy.create_application(applicationName=self.name, computePlatform="Server")
        self.group_id = self.create_group("group", **group)

    def register(self, host, value=None):
        """Boot a host that belongs to the fleet's group."""
        arn = f"arn:aws:iam::123456789012:user/{host}"
        self.codedeploy.register_on_premises_instance(instanceName=host, iamUserArn=arn)
        tags = [{"Key": "fleet", "Value": value or self.name}]
        self.codedeploy.add_tags_to_on_premises_instances(instanceNames=[host], tags=tags)

    def launch(self):
        """Start an EC2 instance with the fleet's tag, and return its id: the name of its host."""
        tags = [{"Key": "fleet", "Value": self.name}]
        answer = self.sandbox.client("ec2").run_instances(
            ImageId="ami-12c6146b",
            MinCount=1,
            MaxCount=1,
            TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
        )
        self.hosts.append(answer["Instances"][0]["InstanceId"])
        return self.hosts[-1]

    def create_group(self, name, **settings):
        """Make a deployment group of the fleet's hosts."""
        filters = [{"Key": "fleet", "Value": self.name, "Type": "KEY_AND_VALUE"}]
        answer = self.codedeploy.create_deployment_group(
            applicationName=self.name,
            deploymentGroupName=name,
            serviceRoleArn=ROLE,
            **({"onPremisesInstanceTagFilters": filters} | settings),
        )
        return answer["deploymentGroupId"]

    def root(self, host=0):
        """The root folder of a host."""
        return self.sandbox.state / "hosts" / self.hosts[host] / "root"

    def folder(self, deployment, host=0):
        """Where the agent keeps a deployment to the fleet's first group."""
        return self.root(host) / "opt/codedeploy-agent/deployment-root" / self.group_id / deployment

    def upload(self, content, kind="tar"):
        """Put a bundle into S3 and return it as a revision."""
        key = f"{self.name}/{uuid.uuid4().hex}"
        answer = self.s3.put_object(Bucket=self.bucket, Key=key, Body=content)
        location = {
            "bucket": self.bucket,
            "key": key,
            "bundleType": kind,
            "version": answer["VersionId"],
            "eTag": answer["ETag"].strip('"'),
        }
        return {"revisionType": "S3", "s3Location": location}

    def start(self, revision, **options):
        """Create a deployment and return its id."""
        where = {"applicationName": self.name, "deploymentGroupName": "group"}
        answer = self.codedeploy.create_deployment(revision=revision, **(where | options))
        return answer["deploymentId"]

    def wait(self, deployment, seconds=60):
        """Return a deployment's description once it has ended."""
        deadline = time.monotonic() + seconds
        while True:
            info = self.describe(deployment)
            if info["status"] in {"Succeeded", "Failed", "Stopped"}:
                return info
            assert time.monotonic() < deadline, json.dumps(info, default=str)
            time.sleep(0.03)

    def deploy(self, appspec, files=None, **options):
        """Deploy a tar with this appspec, wait, and return (description, lifecycle events by name)."""
        revision = self.upload(tar({"appspec.yml": appspec, **(files or {})}))
        return self.finish(self.start(revision, **options))

    def finish(self, deployment):
        """Wait for a deployment and return (description, lifecycle events of the first host by name)."""
        info = self.wait(deployment)
        return info, self.events(deployment)

    def target(self, deployment, host=0):
        """Describe a host's part in a deployment."""
        answer = self.codedeploy.get_deployment_target(deploymentId=deployment, targetId=self.hosts[host])
        return answer["deploymentTarget"]["instanceTarget"]

    def states(self, deployment):
        """The states of the hosts' parts in a deployment."""
        return [self.target(deployment, host)["status"] for host in range(len(self.hosts))]

    def describe(self, deployment):
        """Describe a deployment."""
        return self.codedeploy.get_deployment(deploymentId=deployment)["deploymentInfo"]

    def events(self, deployment, host=0):
        """A host's lifecycle events by name."""
        target = self.target(deployment, host)
        return {event["lifecycleEventName"]: event for event in target["lifecycleEvents"]}


def statuses(events):
    """The states of lifecycle events, in their order."""
    return [event["status"] for event in events.values()]
