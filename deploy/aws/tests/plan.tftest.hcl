# `terraform test` plans with the real provider and without an account: what a plan reads is overridden.

provider "aws" {
  region                      = "eu-central-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

override_data {
  target = data.aws_caller_identity.current
  values = { account_id = "123456789012" }
}

override_data {
  target = data.aws_availability_zones.available
  values = { names = ["eu-central-1a", "eu-central-1b", "eu-central-1c"] }
}

variables {
  region          = "eu-central-1"
  certificate_arn = "arn:aws:acm:eu-central-1:123456789012:certificate/1"
  alert_email     = "team@example.com"

  # An ephemeral password would be asked of AWS.
  generate_password = false
}

run "defaults_are_closed" {
  command = plan
  assert {
    condition     = aws_s3_bucket_public_access_block.lake.block_public_policy && aws_s3_bucket_public_access_block.lake.restrict_public_buckets
    error_message = "The bucket must not be public."
  }
  assert {
    condition     = aws_lb.front.internal && length(aws_vpc_security_group_ingress_rule.balancer) == 0
    error_message = "Unless networks are named, nothing reaches the balancer."
  }
  assert {
    condition     = aws_db_instance.dagster.deletion_protection && aws_db_instance.dagster.storage_encrypted
    error_message = "The database is encrypted and protected."
  }
  assert {
    condition     = length(aws_nat_gateway.main) == 1 && !aws_db_instance.dagster.multi_az
    error_message = "The small size has one NAT gateway and no standby."
  }
  assert {
    condition     = length(aws_kinesis_stream.source) == 0 && length(aws_dynamodb_table.lookups) == 0 && length(aws_iam_role.operator) == 0
    error_message = "What is not asked for is not made."
  }
}

run "large_has_a_standby" {
  command = plan
  variables { size = "large" }
  assert {
    condition     = length(aws_nat_gateway.main) == 2 && aws_db_instance.dagster.multi_az
    error_message = "The large size loses no zone."
  }
}

run "one_task_has_the_home" {
  command = plan
  assert {
    condition     = aws_ecs_service.up.desired_count == 1 && aws_ecs_service.up.deployment_maximum_percent == 100
    error_message = "Two tasks must never share a home."
  }
}

run "wrong_values_are_refused" {
  command = plan
  variables {
    name            = "My Lake"
    size            = "huge"
    region          = "Frankfurt"
    certificate_arn = "lake.example"
    alert_email     = "nobody"
    allowed_cidrs   = ["everyone"]
    cidr            = "10.0.0.0/24"
    budget_usd      = 0
  }
  expect_failures = [
    var.name, var.size, var.region, var.certificate_arn, var.alert_email, var.allowed_cidrs, var.cidr, var.budget_usd,
  ]
}
