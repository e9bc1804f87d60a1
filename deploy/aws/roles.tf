locals {
  # The values in policies/*.json. lakehouse_tests/deploy/test_policies.py runs the lakehouse with these same files.
  policy_values = {
    bucket_arn  = aws_s3_bucket.lake.arn
    key_arn     = aws_kms_key.lake.arn
    glue_arn    = "arn:aws:glue:${var.region}:${local.account}"
    events_arn  = aws_sqs_queue.events.arn
    dead_arn    = aws_sqs_queue.dead.arn
    kinesis_arn = "arn:aws:kinesis:${var.region}:${local.account}:stream/${var.name}-*"
    lookups_arn = "arn:aws:dynamodb:${var.region}:${local.account}:table/${var.name}-lookups"
    secret_arn  = aws_secretsmanager_secret.settings.arn
    cluster_arn = aws_ecs_cluster.main.arn
    service_arn = "arn:aws:ecs:${var.region}:${local.account}:service/${var.name}/${var.name}"
    log_arn     = "arn:aws:logs:${var.region}:${local.account}:log-group:/ecs/${var.name}"
  }
  duties = ["ingest", "pipeline", "serving", "maintenance"]
}

data "aws_iam_policy_document" "tasks_assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

resource "aws_iam_policy" "duty" {
  for_each    = toset(concat(local.duties, ["operator"]))
  name        = "${var.name}-${each.key}"
  description = "What ${each.key} of ${var.name} needs, and no more"
  policy      = templatefile("${path.module}/policies/${each.key}.json", local.policy_values)
}

# One role for each duty, for processes that run apart, and for people's own jobs.
resource "aws_iam_role" "duty" {
  for_each           = toset(local.duties)
  name               = "${var.name}-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.tasks_assume.json
}

resource "aws_iam_role_policy_attachment" "duty" {
  for_each   = toset(local.duties)
  role       = aws_iam_role.duty[each.key].name
  policy_arn = aws_iam_policy.duty[each.key].arn
}

# `lakehouse up` does all four, so its task has all four policies.
resource "aws_iam_role" "up" {
  name               = "${var.name}-up"
  assume_role_policy = data.aws_iam_policy_document.tasks_assume.json
}

resource "aws_iam_role_policy_attachment" "up" {
  for_each   = toset(local.duties)
  role       = aws_iam_role.up.name
  policy_arn = aws_iam_policy.duty[each.key].arn
}

data "aws_iam_policy_document" "operator_assume" {
  count = length(var.operator_principals) > 0 ? 1 : 0
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "AWS"
      identifiers = var.operator_principals
    }
    condition {
      test     = "Bool"
      variable = "aws:MultiFactorAuthPresent"
      values   = ["true"]
    }
  }
}

resource "aws_iam_role" "operator" {
  count              = length(var.operator_principals) > 0 ? 1 : 0
  name               = "${var.name}-operator"
  assume_role_policy = data.aws_iam_policy_document.operator_assume[0].json
}

resource "aws_iam_role_policy_attachment" "operator" {
  count      = length(var.operator_principals) > 0 ? 1 : 0
  role       = aws_iam_role.operator[0].name
  policy_arn = aws_iam_policy.duty["operator"].arn
}

# ECS itself, before the container starts: the image, its logs, and the secrets that become variables.
resource "aws_iam_role" "execution" {
  name               = "${var.name}-execution"
  assume_role_policy = data.aws_iam_policy_document.tasks_assume.json
}

resource "aws_iam_role_policy_attachment" "execution" {
  role       = aws_iam_role.execution.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

resource "aws_iam_role_policy" "execution" {
  name = "secrets"
  role = aws_iam_role.execution.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Action = "secretsmanager:GetSecretValue", Resource = aws_db_instance.dagster.master_user_secret[*].secret_arn },
      { Effect = "Allow", Action = "kms:Decrypt", Resource = aws_kms_key.lake.arn },
    ]
  })
}

data "aws_iam_policy_document" "firehose_assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["firehose.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "firehose" {
  count              = length(var.firehose_streams) > 0 ? 1 : 0
  name               = "${var.name}-firehose"
  assume_role_policy = data.aws_iam_policy_document.firehose_assume.json
}

resource "aws_iam_role_policy" "firehose" {
  count = length(var.firehose_streams) > 0 ? 1 : 0
  name  = "deliver"
  role  = aws_iam_role.firehose[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Action = ["s3:PutObject", "s3:AbortMultipartUpload"], Resource = ["${aws_s3_bucket.lake.arn}/incoming/*", "${aws_s3_bucket.lake.arn}/firehose-errors/*"] },
      { Effect = "Allow", Action = ["kms:GenerateDataKey", "kms:Decrypt"], Resource = aws_kms_key.lake.arn },
    ]
  })
}
