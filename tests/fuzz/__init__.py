"""Input that nobody would write on purpose, by the hundred: specs, metric pages, API answers.

How many examples a test looks at is the profile's business (tests/conftest.py), so no test here
says it: 50 in `make test-quick`, 500 in `make test`, 10,000 in `make test-nightly`.
"""
