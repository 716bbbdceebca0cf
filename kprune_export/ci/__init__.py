"""What a build server shows of a run: its checks as JUnit XML, and a step summary of GitHub Actions."""
