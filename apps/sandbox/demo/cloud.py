"""The account that the demo ships to: what a person would set up once in AWS."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.sandbox.runtime import ACCOUNT_ID, REGION, Runtime

from .errors import DemoError

SERVICE = "lockkeeper"
BUCKET = "lockkeeper-demo"
SOURCE_KEY = f"source/{SERVICE}.zip"
ENVIRONMENTS = ("staging", "production")
UNTOUCHED = ("Pending", "Skipped")


@dataclass(frozen=True)
class Rollout:
    """How far a deployment is: of so many hosts so many are done, and one is `at` an event."""

    deployment_id: str
    hosts: int = 0
    done: int = 0
    at: str = ""

    def __str__(self) -> str:
        count = f"{self.done} of {self.hosts} hosts done" if self.hosts > 1 else ""
        return ", ".join(part for part in (self.at or self.deployment_id, count) if part)


@dataclass
class Cloud:
    """An AWS account behind one endpoint."""

    endpoint: str
    state: Path

    def __post_init__(self) -> None:
        self._runtime = Runtime(state_dir=self.state, endpoint=self.endpoint)

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which AWS's SDKs and tools find this account."""
        return self._runtime.aws_environment()

    def client(self, service: str) -> Any:
        return self._runtime.client(service)

    def set_up(self, cache: Path) -> None:
        """Make the bucket, the CodeBuild project with its report group, and CodeDeploy's application."""
        s3, codebuild, codedeploy = (self.client(name) for name in ("s3", "codebuild", "codedeploy"))
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        codebuild.create_report_group(
            name=f"{SERVICE}-unit",
            type="TEST",
            exportConfig={
                "exportConfigType": "S3",
                "s3Destination": {"bucket": BUCKET, "path": "reports", "packaging": "NONE"},
            },
        )
        variables = {"LOCKKEEPER_BUCKET": BUCKET, "LOCKKEEPER_CACHE_DIR": str(cache)}
        codebuild.create_project(
            name=SERVICE,
            source={"type": "S3", "location": f"{BUCKET}/{SOURCE_KEY}"},
            artifacts={"type": "NO_ARTIFACTS"},
            environment={
                "type": "LINUX_CONTAINER",
                "image": "aws/codebuild/amazonlinux-x86_64-standard:5.0",
                "computeType": "BUILD_GENERAL1_SMALL",
                "environmentVariables": [{"name": name, "value": value} for name, value in variables.items()],
            },
            serviceRole=f"arn:aws:iam::{ACCOUNT_ID}:role/lockkeeper-build",
        )
        codedeploy.create_application(applicationName=SERVICE, computePlatform="Server")

    def add_group(self, environment: str, **settings: Any) -> None:
        """Make an environment's deployment group; the settings say which hosts belong to it."""
        self.client("codedeploy").create_deployment_group(
            applicationName=SERVICE,
            deploymentGroupName=environment,
            deploymentConfigName="CodeDeployDefault.OneAtATime",
            serviceRoleArn=f"arn:aws:iam::{ACCOUNT_ID}:role/lockkeeper-deploy",
            **settings,
        )

    def add_staging(self, name: str) -> None:
        """Make a host of our own known to CodeDeploy, which then delivers to it; no load balancer."""
        codedeploy = self.client("codedeploy")
        self.add_group("staging", onPremisesInstanceTagFilters=[tagged("staging")])
        arn = f"arn:aws:iam::{ACCOUNT_ID}:user/{name}"
        codedeploy.register_on_premises_instance(instanceName=name, iamUserArn=arn)
        codedeploy.add_tags_to_on_premises_instances(
            instanceNames=[name], tags=[{"Key": "environment", "Value": "staging"}]
        )

    def start_build(self, archive: Path) -> str:
        """Upload a source and build exactly that version of it; return the build's id."""
        with archive.open("rb") as body:
            version = self.client("s3").put_object(Bucket=BUCKET, Key=SOURCE_KEY, Body=body)["VersionId"]
        build = self.client("codebuild").start_build(projectName=SERVICE, sourceVersion=version)["build"]
        return str(build["id"])

    def build(self, build_id: str) -> dict[str, Any]:
        """Return what BatchGetBuilds says of a build."""
        found = self.client("codebuild").batch_get_builds(ids=[build_id])["builds"]
        if not found:
            raise DemoError(f"CodeBuild does not know the build {build_id}")
        return dict(found[0])

    def build_log(self, build_id: str) -> Path:
        return self.state / "builds" / build_id.partition(":")[2] / "log.txt"

    def newest_deployment(self, environment: str) -> str:
        """Return the id of an environment's newest deployment; empty before the first."""
        listed = self.client("codedeploy").list_deployments(
            applicationName=SERVICE, deploymentGroupName=environment
        )
        return str(listed["deployments"][0]) if listed["deployments"] else ""

    def deployment_progress(self, deployment_id: str) -> Rollout:
        """Return how far a deployment is."""
        codedeploy = self.client("codedeploy")
        ids = codedeploy.list_deployment_targets(deploymentId=deployment_id)["targetIds"]
        if not ids:
            return Rollout(deployment_id)
        described = codedeploy.batch_get_deployment_targets(deploymentId=deployment_id, targetIds=ids)
        targets = [each["instanceTarget"] for each in described["deploymentTargets"]]
        at = ""
        for target in targets:
            if target["status"] in ("InProgress", "Failed"):
                begun = [event for event in target["lifecycleEvents"] if event["status"] not in UNTOUCHED]
                event = f" {begun[-1]['lifecycleEventName']}" if begun else ""
                failed = " Failed" if target["status"] == "Failed" else ""
                at = f"{target['targetId']}{event}{failed}"
        done = sum(target["status"] == "Succeeded" for target in targets)
        return Rollout(deployment_id, len(targets), done, at)


def tagged(environment: str) -> dict[str, str]:
    """The tag filter that finds an environment's hosts."""
    return {"Key": "environment", "Value": environment, "Type": "KEY_AND_VALUE"}
