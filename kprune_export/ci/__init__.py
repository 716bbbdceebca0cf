"""Files for build servers: checks as JUnit XML, and a step summary for GitHub Actions."""
