# New files under incoming/: S3 → EventBridge → SQS, which the lakehouse reads.

resource "aws_sqs_queue" "dead" {
  name                      = "${var.name}-events-dead"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true
}

resource "aws_sqs_queue" "events" {
  name                       = "${var.name}-events"
  visibility_timeout_seconds = 300
  message_retention_seconds  = 345600
  sqs_managed_sse_enabled    = true
  # Each restart of the lakehouse is one reception, so a message may need several.
  redrive_policy = jsonencode({ deadLetterTargetArn = aws_sqs_queue.dead.arn, maxReceiveCount = 20 })
}

resource "aws_sqs_queue_policy" "events" {
  queue_url = aws_sqs_queue.events.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = "sqs:SendMessage"
      Resource  = aws_sqs_queue.events.arn
      Condition = { ArnEquals = { "aws:SourceArn" = aws_cloudwatch_event_rule.created.arn } }
    }]
  })
}

resource "aws_s3_bucket_notification" "lake" {
  bucket      = aws_s3_bucket.lake.id
  eventbridge = true
}

resource "aws_cloudwatch_event_rule" "created" {
  name        = "${var.name}-created"
  description = "New files under incoming/"
  event_pattern = jsonencode({
    source      = ["aws.s3"]
    detail-type = ["Object Created"]
    detail      = { bucket = { name = [aws_s3_bucket.lake.bucket] }, object = { key = [{ prefix = "incoming/" }] } }
  })
}

resource "aws_cloudwatch_event_target" "created" {
  rule = aws_cloudwatch_event_rule.created.name
  arn  = aws_sqs_queue.events.arn
}

resource "aws_kinesis_stream" "source" {
  for_each         = var.kinesis_streams
  name             = "${var.name}-${each.value}"
  retention_period = 168 # hours; records that expire before they are read are lost
  encryption_type  = "KMS"
  kms_key_id       = "alias/aws/kinesis"
  stream_mode_details { stream_mode = "ON_DEMAND" }
}

resource "aws_kinesis_firehose_delivery_stream" "source" {
  for_each    = var.firehose_streams
  name        = "${var.name}-${each.key}"
  destination = "extended_s3"
  server_side_encryption { enabled = true }
  extended_s3_configuration {
    role_arn            = aws_iam_role.firehose[0].arn
    bucket_arn          = aws_s3_bucket.lake.arn
    prefix              = "incoming/${each.key}/"
    error_output_prefix = "firehose-errors/${each.key}/" # outside incoming/, so that errors are no events
    buffering_interval  = 60
    buffering_size      = 64
    compression_format  = "GZIP"
  }
}

resource "aws_dynamodb_table" "lookups" {
  count        = var.lookups_table ? 1 : 0
  name         = "${var.name}-lookups"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "pk"
  attribute {
    name = "pk"
    type = "S"
  }
  server_side_encryption { enabled = true }
  point_in_time_recovery { enabled = true }
}
