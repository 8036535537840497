"""An embedded AWS: moto's S3, SQS, EventBridge, STS and SSM; CodeBuild and CodeDeploy that really run.

The rest of the code knows only its address (`AWS_ENDPOINT_URL`). Development and tests use it; it is not
shipped in bundles.
"""
