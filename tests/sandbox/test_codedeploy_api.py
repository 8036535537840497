"""CodeDeploy's API through boto3: applications, groups, instances, and what is refused."""

import uuid

import pytest
from botocore.exceptions import ClientError

from tests.sandbox.deploying import HEADER, ROLE, Fleet, tar

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def codedeploy(sandbox):
    return sandbox.client("codedeploy")


@pytest.fixture
def application(codedeploy):
    name = f"app-{uuid.uuid4().hex[:8]}"
    codedeploy.create_application(applicationName=name)
    return name


@pytest.fixture
def group(codedeploy, application):
    codedeploy.create_deployment_group(
        applicationName=application, deploymentGroupName="group", serviceRoleArn=ROLE
    )
    return {"applicationName": application, "deploymentGroupName": "group"}


REVISION = {"revisionType": "S3", "s3Location": {"bucket": "bucket", "key": "key", "bundleType": "tar"}}


def refused(code, call, **params):
    """Make a call that must fail, and return the message."""
    with pytest.raises(ClientError) as caught:
        call(**params)
    error = caught.value.response
    assert error["Error"]["Code"] == code
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 400
    return error["Error"]["Message"]


def test_an_application_is_made_described_and_deleted(codedeploy, application):
    described = codedeploy.get_application(applicationName=application)["application"]
    assert (described["applicationName"], described["computePlatform"]) == (application, "Server")
    assert application in codedeploy.list_applications()["applications"]
    refused("ApplicationAlreadyExistsException", codedeploy.create_application, applicationName=application)
    codedeploy.delete_application(applicationName=application)
    refused("ApplicationDoesNotExistException", codedeploy.get_application, applicationName=application)


def test_a_group_is_made_described_changed_and_deleted(codedeploy, application, group):
    filters = [{"Key": "a", "Value": "b", "Type": "KEY_AND_VALUE"}]
    described = codedeploy.get_deployment_group(**group)["deploymentGroupInfo"]
    assert described["deploymentConfigName"] == "CodeDeployDefault.OneAtATime"
    assert described["onPremisesInstanceTagFilters"] == []
    codedeploy.update_deployment_group(
        applicationName=application,
        currentDeploymentGroupName="group",
        newDeploymentGroupName="renamed",
        deploymentConfigName="CodeDeployDefault.AllAtOnce",
        onPremisesInstanceTagFilters=filters,
    )
    assert codedeploy.list_deployment_groups(applicationName=application)["deploymentGroups"] == ["renamed"]
    answer = codedeploy.batch_get_deployment_groups(
        applicationName=application, deploymentGroupNames=["renamed", "nope"]
    )
    (found,) = answer["deploymentGroupsInfo"]
    assert found["deploymentGroupId"] == described["deploymentGroupId"]
    assert found["onPremisesInstanceTagFilters"] == filters
    assert "nope" in answer["errorMessage"]
    codedeploy.delete_deployment_group(applicationName=application, deploymentGroupName="renamed")
    refused("DeploymentGroupDoesNotExistException", codedeploy.get_deployment_group, **group)


def test_two_groups_of_one_name(codedeploy, group):
    refused(
        "DeploymentGroupAlreadyExistsException",
        codedeploy.create_deployment_group,
        **group,
        serviceRoleArn=ROLE,
    )


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"loadBalancerInfo": {"elbInfoList": [{"name": "x"}]}}, "elbInfoList"),
        (
            {"loadBalancerInfo": {"targetGroupPairInfoList": [{"targetGroups": []}]}},
            "targetGroupPairInfoList",
        ),
        ({"autoScalingGroups": ["asg"]}, "autoScalingGroups"),
        ({"deploymentStyle": {"deploymentType": "BLUE_GREEN"}}, "IN_PLACE"),
        ({"triggerConfigurations": [{"triggerName": "x"}]}, "triggerConfigurations"),
        ({"terminationHookEnabled": True}, "terminationHookEnabled"),
    ],
)
def test_what_a_group_cannot_have_here_is_refused(codedeploy, application, settings, named):
    message = refused(
        "UnsupportedOperationException",
        codedeploy.create_deployment_group,
        applicationName=application,
        deploymentGroupName="other",
        serviceRoleArn=ROLE,
        **settings,
    )
    assert named in message
    assert codedeploy.list_deployment_groups(applicationName=application)["deploymentGroups"] == []


def test_settings_that_are_switched_off_are_accepted(codedeploy, application):
    codedeploy.create_deployment_group(
        applicationName=application,
        deploymentGroupName="other",
        serviceRoleArn=ROLE,
        autoRollbackConfiguration={"enabled": False},
        alarmConfiguration={"enabled": False},
        triggerConfigurations=[],
    )


@pytest.mark.parametrize("config", ["CodeDeployDefault.ECSAllAtOnce", "mine"])
def test_an_unknown_deployment_configuration(codedeploy, application, config):
    refused(
        "DeploymentConfigDoesNotExistException",
        codedeploy.create_deployment_group,
        applicationName=application,
        deploymentGroupName="other",
        serviceRoleArn=ROLE,
        deploymentConfigName=config,
    )


@pytest.mark.parametrize(
    ("code", "params"),
    [
        ("ApplicationDoesNotExistException", {"applicationName": "nope"}),
        ("DeploymentGroupDoesNotExistException", {"deploymentGroupName": "nope"}),
        ("DeploymentGroupNameRequiredException", {"deploymentGroupName": None}),
        ("RevisionRequiredException", {"revision": None}),
        ("InvalidRevisionException", {"revision": {"revisionType": "S3"}}),
        (
            "InvalidRevisionException",
            {
                "revision": {
                    "revisionType": "S3",
                    "s3Location": {"bucket": "a", "key": "b", "bundleType": "YAML"},
                }
            },
        ),
        (
            "UnsupportedOperationException",
            {
                "revision": {
                    "revisionType": "GitHub",
                    "gitHubLocation": {"repository": "a/b", "commitId": "c"},
                }
            },
        ),
        ("DescriptionTooLongException", {"description": "x" * 257}),
        ("DeploymentConfigDoesNotExistException", {"deploymentConfigName": "nope"}),
        ("UnsupportedOperationException", {"targetInstances": {"tagFilters": [{"Key": "a"}]}}),
        ("UnsupportedOperationException", {"updateOutdatedInstancesOnly": True}),
        ("ValidationException", {"fileExistsBehavior": "REPLACE"}),
    ],
)
def test_a_deployment_that_cannot_be_is_refused_by_the_services_own_name(codedeploy, group, code, params):
    asked = {"revision": REVISION, **group, **params}
    refused(
        code,
        codedeploy.create_deployment,
        **{key: value for key, value in asked.items() if value is not None},
    )
    assert codedeploy.list_deployments(**group)["deployments"] == []


def test_an_unknown_deployment_target_and_revision(codedeploy, application):
    unknown = {"deploymentId": "d-NOTHERE12"}
    refused("DeploymentDoesNotExistException", codedeploy.get_deployment, **unknown)
    refused("DeploymentDoesNotExistException", codedeploy.stop_deployment, **unknown)
    refused("DeploymentDoesNotExistException", codedeploy.list_deployment_targets, **unknown)
    refused("DeploymentDoesNotExistException", codedeploy.get_deployment_target, **unknown, targetId="x")
    refused(
        "RevisionDoesNotExistException",
        codedeploy.get_application_revision,
        applicationName=application,
        revision=REVISION,
    )
    assert codedeploy.batch_get_deployments(deploymentIds=["d-NOTHERE12"])["deploymentsInfo"] == []


def test_a_revision_can_be_registered_before_it_is_deployed(codedeploy, application):
    codedeploy.register_application_revision(
        applicationName=application, revision=REVISION, description="the first"
    )
    found = codedeploy.get_application_revision(applicationName=application, revision=REVISION)
    assert found["revisionInfo"]["description"] == "the first"
    assert codedeploy.list_application_revisions(applicationName=application)["revisions"] == [REVISION]


def test_an_operation_that_is_not_supported_is_refused_by_name(codedeploy):
    message = refused("UnsupportedOperationException", codedeploy.list_git_hub_account_token_names)
    assert "ListGitHubAccountTokenNames" in message


def test_an_instance_needs_one_arn_and_a_name_of_its_own(codedeploy, sandbox):
    register = codedeploy.register_on_premises_instance
    name = f"host-{uuid.uuid4().hex[:8]}"
    arn = f"arn:aws:iam::123456789012:user/{name}"
    refused("IamArnRequiredException", register, instanceName=name)
    refused(
        "MultipleIamArnsProvidedException", register, instanceName=name, iamUserArn=arn, iamSessionArn=arn
    )
    refused("InvalidInstanceNameException", register, instanceName="../escape", iamUserArn=arn)
    register(instanceName=name, iamUserArn=arn)
    refused("InstanceNameAlreadyRegisteredException", register, instanceName=name, iamUserArn=arn)
    refused("IamUserArnAlreadyRegisteredException", register, instanceName=f"{name}-2", iamUserArn=arn)
    described = codedeploy.get_on_premises_instance(instanceName=name)["instanceInfo"]
    assert (described["instanceName"], described["iamUserArn"], described["tags"]) == (name, arn, [])
    codedeploy.deregister_on_premises_instance(instanceName=name)
    refused("InstanceNotRegisteredException", codedeploy.get_on_premises_instance, instanceName=name)
    assert (sandbox.state / "hosts" / name / "root").is_dir()  # its files stay


def test_instances_are_found_by_their_tags(codedeploy):
    name = f"host-{uuid.uuid4().hex[:8]}"
    codedeploy.register_on_premises_instance(instanceName=name, iamSessionArn=f"arn:aws:sts::1:{name}")
    tags = [{"Key": name, "Value": "1"}, {"Key": "other", "Value": "2"}]
    codedeploy.add_tags_to_on_premises_instances(instanceNames=[name], tags=tags)

    def listed(**one):
        return codedeploy.list_on_premises_instances(tagFilters=[one])["instanceNames"]

    assert listed(Key=name, Value="1", Type="KEY_AND_VALUE") == [name]
    assert listed(Key=name, Type="KEY_ONLY") == [name]
    assert listed(Key=name, Value="2", Type="KEY_AND_VALUE") == []
    codedeploy.remove_tags_from_on_premises_instances(instanceNames=[name], tags=tags[:1])
    assert listed(Key=name, Type="KEY_ONLY") == []
    refused(
        "InstanceNotRegisteredException",
        codedeploy.add_tags_to_on_premises_instances,
        instanceNames=["nope"],
        tags=tags,
    )
    codedeploy.deregister_on_premises_instance(instanceName=name)


def test_registering_a_host_boots_what_is_enabled_there(sandbox, bucket):
    name = f"host-{uuid.uuid4().hex[:8]}"
    units = sandbox.state / "hosts" / name / "root/etc/systemd/system"
    (units / "multi-user.target.wants").mkdir(parents=True)
    (units / "app.service").write_text(
        "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo up > /srv/lockkeeper'\n"
    )
    (units / "multi-user.target.wants/app.service").symlink_to("../app.service")
    (units.parents[2] / "srv").mkdir()
    fleet = Fleet(sandbox, bucket, hosts=0)
    fleet.register(name)
    fleet.hosts = [name]
    revision = fleet.upload(tar({"appspec.yml": HEADER}))
    assert fleet.wait(fleet.start(revision))["status"] == "Succeeded"
    assert (fleet.root() / "srv/lockkeeper").read_text() == "up\n"


def own_config(codedeploy, kind, value, name=None):
    name = name or f"config-{uuid.uuid4().hex[:8]}"
    healthy = {"type": kind, "value": value}
    return name, codedeploy.create_deployment_config(deploymentConfigName=name, minimumHealthyHosts=healthy)


def test_a_configuration_is_made_described_and_deleted_unless_used(codedeploy, application):
    name, made = own_config(codedeploy, "HOST_COUNT", 2)
    described = codedeploy.get_deployment_config(deploymentConfigName=name)["deploymentConfigInfo"]
    assert described["deploymentConfigId"] == made["deploymentConfigId"]
    assert described["minimumHealthyHosts"] == {"type": "HOST_COUNT", "value": 2}
    assert name in codedeploy.list_deployment_configs()["deploymentConfigsList"]
    with pytest.raises(ClientError, match="DeploymentConfigAlreadyExistsException"):
        own_config(codedeploy, "HOST_COUNT", 1, name)
    where = {"applicationName": application, "deploymentGroupName": "group"}
    codedeploy.create_deployment_group(**where, serviceRoleArn=ROLE, deploymentConfigName=name)
    refused("DeploymentConfigInUseException", codedeploy.delete_deployment_config, deploymentConfigName=name)
    codedeploy.delete_deployment_group(**where)
    codedeploy.delete_deployment_config(deploymentConfigName=name)
    refused(
        "DeploymentConfigDoesNotExistException", codedeploy.get_deployment_config, deploymentConfigName=name
    )


def test_the_predefined_configurations_are_described_and_kept(codedeploy):
    names = ["OneAtATime", "HalfAtATime", "AllAtOnce"]
    listed = codedeploy.list_deployment_configs()["deploymentConfigsList"]
    assert listed[:3] == [f"CodeDeployDefault.{name}" for name in names]
    found = [
        codedeploy.get_deployment_config(deploymentConfigName=name)["deploymentConfigInfo"]
        for name in listed[:3]
    ]
    healthy = [each["minimumHealthyHosts"] for each in found]
    assert healthy == [{"type": "FLEET_PERCENT", "value": value} for value in (99, 50, 0)]
    refused("InvalidOperationException", codedeploy.delete_deployment_config, deploymentConfigName=listed[0])


@pytest.mark.parametrize(
    ("code", "params"),
    [
        ("InvalidDeploymentConfigNameException", {"deploymentConfigName": "CodeDeployDefault.Mine"}),
        ("InvalidMinimumHealthyHostValueException", {"minimumHealthyHosts": {"type": "HOST_COUNT"}}),
        (
            "InvalidMinimumHealthyHostValueException",
            {"minimumHealthyHosts": {"type": "FLEET_PERCENT", "value": 101}},
        ),
        ("ValidationException", {"minimumHealthyHosts": {"type": "MOST_CONCURRENCY", "value": 1}}),
        ("UnsupportedOperationException", {"computePlatform": "Lambda"}),
        ("UnsupportedOperationException", {"zonalConfig": {"monitorDurationInSeconds": 1}}),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(codedeploy, code, params):
    healthy = {"type": "HOST_COUNT", "value": 1}
    asked = {"deploymentConfigName": "refused", "minimumHealthyHosts": healthy, **params}
    refused(code, codedeploy.create_deployment_config, **asked)


def test_a_groups_settings_are_described_and_changed_one_by_one(codedeploy, application, group):
    settings = {
        "ec2TagFilters": [{"Key": "a", "Type": "KEY_ONLY"}],
        "loadBalancerInfo": {"targetGroupInfoList": [{"name": "web"}]},
        "deploymentStyle": {"deploymentType": "IN_PLACE", "deploymentOption": "WITH_TRAFFIC_CONTROL"},
        "autoRollbackConfiguration": {"enabled": True, "events": ["DEPLOYMENT_FAILURE"]},
        "alarmConfiguration": {"enabled": True, "alarms": [{"name": "errors"}]},
    }

    def update(**params):
        codedeploy.update_deployment_group(
            applicationName=application, currentDeploymentGroupName="group", **params
        )

    def described():
        return codedeploy.get_deployment_group(**group)["deploymentGroupInfo"]

    update(**settings)
    assert settings.items() <= described().items()
    assert described()["serviceRoleArn"] == ROLE
    tag_set = {"ec2TagSetList": [[{"Key": "b", "Value": "", "Type": "KEY_ONLY"}]]}
    update(ec2TagSet=tag_set, autoRollbackConfiguration={"enabled": False})
    now = described()
    assert (now["ec2TagSet"], now["ec2TagFilters"]) == (tag_set, [])
    assert now["autoRollbackConfiguration"] == {"enabled": False}
    assert now["loadBalancerInfo"] == settings["loadBalancerInfo"]


@pytest.mark.parametrize(
    "info",
    [None, {"targetGroupInfoList": []}, {"targetGroupInfoList": [{}]}],
    ids=["none", "empty", "no name"],
)
def test_traffic_control_needs_a_target_group(codedeploy, application, info):
    refused(
        "InvalidLoadBalancerInfoException",
        codedeploy.create_deployment_group,
        applicationName=application,
        deploymentGroupName="other",
        serviceRoleArn=ROLE,
        deploymentStyle={"deploymentType": "IN_PLACE", "deploymentOption": "WITH_TRAFFIC_CONTROL"},
        **({"loadBalancerInfo": info} if info else {}),
    )


def test_revisions_are_listed_by_bucket_key_and_use(codedeploy, application, group):
    made = {}
    for name in ("one/a", "one/b", "two/a"):
        bucket, _, key = name.partition("/")
        location = {"bucket": bucket, "key": key, "bundleType": "tar"}
        made[name] = {"revisionType": "S3", "s3Location": location}
        codedeploy.register_application_revision(applicationName=application, revision=made[name])
    deployment = codedeploy.create_deployment(revision=made["one/b"], **group)["deploymentId"]

    def listed(**params):
        found = codedeploy.list_application_revisions(applicationName=application, **params)["revisions"]
        return [f"{each['s3Location']['bucket']}/{each['s3Location']['key']}" for each in found]

    assert listed() == ["one/a", "one/b", "two/a"]
    assert listed(sortBy="registerTime", sortOrder="descending")[0] == "two/a"
    assert listed(sortBy="lastUsedTime", sortOrder="descending")[0] == "one/b"
    assert listed(s3Bucket="one") == ["one/a", "one/b"]
    assert listed(s3Bucket="one", s3KeyPrefix="a") == ["one/a"]
    assert listed(deployed="include") == ["one/b"]
    assert listed(deployed="exclude") == ["one/a", "two/a"]
    list_revisions = codedeploy.list_application_revisions
    refused("BucketNameFilterRequiredException", list_revisions, applicationName=application, s3KeyPrefix="a")
    answer = codedeploy.batch_get_application_revisions(
        applicationName=application, revisions=[made["one/b"], REVISION]
    )
    (found,) = answer["revisions"]
    assert found["genericRevisionInfo"]["deploymentGroups"] == ["group"]
    assert "1 of the revisions" in answer["errorMessage"]
    info = codedeploy.get_deployment(deploymentId=deployment)["deploymentInfo"]
    assert info["revision"] == made["one/b"]
