"""CodeBuild's operations on batch builds, none of which this sandbox runs."""

from typing import Any

from apps.sandbox.protocol import AwsError


class BatchApi:
    """Refuses what would start or change a batch, and says truly that there is none."""

    def start_build_batch(self, **params: Any) -> dict[str, Any]:
        raise AwsError(
            "InvalidInputException",
            "The sandbox runs no batch builds. Start a build for each part with StartBuild; there the batch "
            "section of a buildspec has no effect.",
        )

    def retry_build_batch(self, **params: Any) -> dict[str, Any]:
        raise _none(params.get("id", ""))

    def stop_build_batch(self, **params: Any) -> dict[str, Any]:
        raise _none(params["id"])

    def batch_get_build_batches(self, **params: Any) -> dict[str, Any]:
        return {"buildBatches": [], "buildBatchesNotFound": params["ids"]}

    def list_build_batches(self, **params: Any) -> dict[str, Any]:
        return {"ids": []}

    def list_build_batches_for_project(self, **params: Any) -> dict[str, Any]:
        return {"ids": []}


def _none(identifier: str) -> AwsError:
    return AwsError(
        "ResourceNotFoundException",
        f"There is no build batch {identifier}: the sandbox runs no batch builds.",
    )
