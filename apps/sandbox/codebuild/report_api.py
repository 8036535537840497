"""CodeBuild's operations on report groups and reports."""

from typing import Any, TypeVar

from apps.sandbox.codebuild.paging import ordered, page, refuse_members
from apps.sandbox.codebuild.reports import NO_EXPORT, Report, ReportStore
from apps.sandbox.protocol import AwsError

T = TypeVar("T")


class ReportApi:
    """Operations named as in the API; each takes the API's parameters and returns its answer."""

    reports: ReportStore

    def create_report_group(self, **params: Any) -> dict[str, Any]:
        name, export = params["name"], params["exportConfig"]
        destination = export.get("s3Destination") or {}
        if export.get("exportConfigType") == "S3":
            if not destination.get("bucket"):
                raise AwsError("InvalidInputException", "Invalid export config: S3 needs a bucket.")
            supported = {"bucket", "bucketOwner", "path", "packaging", "encryptionDisabled", "encryptionKey"}
            refuse_members(destination, supported, "in s3Destination")
        config = export if export.get("exportConfigType") else dict(NO_EXPORT)
        try:
            group = self.reports.create_group(name, params["type"], config, params.get("tags", []))
        except KeyError as error:
            message = f"Report group already exists: {error.args[0]}"
            raise AwsError("ResourceAlreadyExistsException", message) from error
        return {"reportGroup": group.describe()}

    def batch_get_report_groups(self, **params: Any) -> dict[str, Any]:
        found, missing = _split(params["reportGroupArns"], self.reports.groups)
        return {
            "reportGroups": [group.describe() for group in found],
            "reportGroupsNotFound": missing or None,
        }

    def list_report_groups(self, **params: Any) -> dict[str, Any]:
        keys = {"NAME": "name", "CREATED_TIME": "created", "LAST_MODIFIED_TIME": "created"}
        key = keys[params.get("sortBy", "CREATED_TIME")]
        groups = sorted(self.reports.groups.values(), key=lambda group: getattr(group, key))
        arns = [group.arn for group in ordered(groups, params.get("sortOrder"), "ASCENDING")]
        found, token = page(arns, params.get("nextToken"), params.get("maxResults"))
        return {"reportGroups": found, "nextToken": token}

    def delete_report_group(self, **params: Any) -> dict[str, Any]:
        group = self.reports.groups.get(params["arn"])
        if group and group.arns and not params.get("deleteReports"):
            raise AwsError(
                "InvalidInputException",
                "The report group has reports; pass deleteReports to delete them too.",
            )
        if group:
            with self.reports.lock:
                del self.reports.groups[group.arn]
                for arn in group.arns:
                    del self.reports.reports[arn]
        return {}

    def batch_get_reports(self, **params: Any) -> dict[str, Any]:
        found, missing = _split(params["reportArns"], self.reports.reports)
        return {"reports": [report.describe() for report in found], "reportsNotFound": missing or None}

    def list_reports(self, **params: Any) -> dict[str, Any]:
        return self._list(list(self.reports.reports.values()), params)

    def list_reports_for_report_group(self, **params: Any) -> dict[str, Any]:
        arn = params["reportGroupArn"]
        if arn not in self.reports.groups:
            raise AwsError("ResourceNotFoundException", f"Report group does not exist: {arn}")
        return self._list([self.reports.reports[each] for each in self.reports.groups[arn].arns], params)

    def describe_test_cases(self, **params: Any) -> dict[str, Any]:
        arn, wanted = params["reportArn"], params.get("filter", {})
        report = self.reports.reports.get(arn)
        if report is None:
            raise AwsError("ResourceNotFoundException", f"Report does not exist: {arn}")
        keyword = wanted.get("keyword", "")
        cases = [
            kept
            for kept in report.cases
            if wanted.get("status") in (None, kept.case.outcome)
            and (keyword in kept.case.name or keyword in kept.case.class_name)
        ]
        found, token = page(cases, params.get("nextToken"), params.get("maxResults"))
        return {"testCases": [report.describe_case(kept) for kept in found], "nextToken": token}

    def describe_code_coverages(self, **params: Any) -> dict[str, Any]:
        arn = params["reportArn"]
        report = self.reports.reports.get(arn)
        if report is None:
            # The only error that CodeBuild's model has for it.
            raise AwsError("InvalidInputException", f"Report does not exist: {arn}")
        least, most = params.get("minLineCoveragePercentage", 0), params.get("maxLineCoveragePercentage", 100)
        files = [report.describe_file(file) for file in report.table.files()]
        files = [file for file in files if least <= file["lineCoveragePercentage"] <= most]
        if params.get("sortBy") == "LINE_COVERAGE_PERCENTAGE":
            files.sort(key=lambda file: file["lineCoveragePercentage"])
        files = ordered(files, params.get("sortOrder"), "ASCENDING")
        found, token = page(files, params.get("nextToken"), params.get("maxResults"))
        return {"codeCoverages": found, "nextToken": token}

    def _list(self, reports: list[Report], params: dict[str, Any]) -> dict[str, Any]:
        status = (params.get("filter") or {}).get("status")
        arns = [report.arn for report in reports if status in (None, report.status)]
        arns = ordered(arns, params.get("sortOrder"))
        found, token = page(arns, params.get("nextToken"), params.get("maxResults"))
        return {"reports": found, "nextToken": token}


def _split(arns: list[str], known: dict[str, T]) -> tuple[list[T], list[str]]:
    """Return what is known of some ARNs, and the ARNs that are not."""
    return [known[arn] for arn in arns if arn in known], [arn for arn in arns if arn not in known]
