"""What CodeDeploy's agent and CodeBuild accept: the readers of appspecs and buildspecs, and their linters."""
