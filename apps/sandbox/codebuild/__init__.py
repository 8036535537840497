"""CodeBuild on this machine: builds execute their buildspec, and report files become reports."""
