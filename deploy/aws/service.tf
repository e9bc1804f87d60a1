resource "aws_ecr_repository" "lakehouse" {
  name                 = var.name
  image_tag_mutability = "IMMUTABLE"
  force_delete         = !var.deletion_protection
  image_scanning_configuration { scan_on_push = true }
  encryption_configuration {
    encryption_type = "KMS"
    kms_key         = aws_kms_key.lake.arn
  }
}

# A password for the Dagster page that is in no state file: Terraform passes it on and forgets it.
ephemeral "aws_secretsmanager_random_password" "dagster" {
  count               = var.generate_password ? 1 : 0
  password_length     = 32
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "settings" {
  name                    = "${var.name}/settings"
  description             = "LAKEHOUSE_ variables that are secret, as a JSON object"
  kms_key_id              = aws_kms_key.lake.arn
  recovery_window_in_days = var.deletion_protection ? 7 : 0
}

resource "aws_secretsmanager_secret_version" "settings" {
  count                    = var.generate_password ? 1 : 0
  secret_id                = aws_secretsmanager_secret.settings.id
  secret_string_wo_version = var.secret_version
  secret_string_wo = jsonencode({
    LAKEHOUSE_DAGSTER_PASSWORD = ephemeral.aws_secretsmanager_random_password.dagster[0].random_password
  })
}

resource "aws_db_subnet_group" "dagster" {
  name       = "${var.name}-dagster"
  subnet_ids = aws_subnet.private[*].id
}

resource "aws_db_instance" "dagster" {
  identifier                    = "${var.name}-dagster"
  engine                        = "postgres"
  engine_version                = "16"
  instance_class                = local.size.database
  allocated_storage             = local.size.storage_gb
  storage_encrypted             = true
  kms_key_id                    = aws_kms_key.lake.arn
  multi_az                      = local.size.multi_az
  db_name                       = "dagster"
  username                      = "dagster"
  manage_master_user_password   = true # and rotated by RDS
  master_user_secret_kms_key_id = aws_kms_key.lake.key_id
  db_subnet_group_name          = aws_db_subnet_group.dagster.name
  vpc_security_group_ids        = [aws_security_group.state.id]
  backup_retention_period       = 7
  copy_tags_to_snapshot         = true
  auto_minor_version_upgrade    = true
  deletion_protection           = var.deletion_protection
  skip_final_snapshot           = !var.deletion_protection
  final_snapshot_identifier     = var.deletion_protection ? "${var.name}-dagster-final" : null
}

# The home: API keys, idempotent answers, logs. Tables and events are in the bucket.
resource "aws_efs_file_system" "home" {
  creation_token = "${var.name}-home"
  encrypted      = true
  kms_key_id     = aws_kms_key.lake.arn
  tags           = { Name = "${var.name}-home" }
}

resource "aws_efs_mount_target" "home" {
  count           = length(local.zones)
  file_system_id  = aws_efs_file_system.home.id
  subnet_id       = aws_subnet.private[count.index].id
  security_groups = [aws_security_group.state.id]
}

resource "aws_efs_access_point" "home" {
  file_system_id = aws_efs_file_system.home.id
  posix_user {
    uid = local.user_id
    gid = local.user_id
  }
  root_directory {
    path = "/home"
    creation_info {
      owner_uid   = local.user_id
      owner_gid   = local.user_id
      permissions = "0700"
    }
  }
}

resource "aws_cloudwatch_log_group" "lakehouse" {
  name              = "/ecs/${var.name}"
  retention_in_days = local.size.log_days
  kms_key_id        = aws_kms_key.lake.arn
}

resource "aws_ecs_cluster" "main" {
  name = var.name
  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

locals {
  variables = merge(
    {
      LAKEHOUSE_HOME                  = "/data"
      LAKEHOUSE_STORAGE               = "external"
      LAKEHOUSE_BUCKET                = aws_s3_bucket.lake.bucket
      LAKEHOUSE_S3_REGION             = var.region
      LAKEHOUSE_CATALOG               = "glue"
      LAKEHOUSE_CATALOG_WAREHOUSE     = "s3://${aws_s3_bucket.lake.bucket}/tables"
      LAKEHOUSE_INCOMING              = "queue"
      LAKEHOUSE_QUEUE_URL             = aws_sqs_queue.events.url
      LAKEHOUSE_QUEUE_DEAD_LETTER_URL = aws_sqs_queue.dead.url
      LAKEHOUSE_SECRET_ID             = aws_secretsmanager_secret.settings.arn
      LAKEHOUSE_DAGSTER_POSTGRES_URL  = "postgresql://dagster@${aws_db_instance.dagster.endpoint}/dagster?sslmode=require"
      LAKEHOUSE_HTTP_HOST             = "0.0.0.0"
      LAKEHOUSE_HTTP_PORT             = tostring(local.http_port)
      LAKEHOUSE_DAGSTER_HOST          = "0.0.0.0"
      LAKEHOUSE_DAGSTER_PORT          = tostring(local.dagster_port)
      LAKEHOUSE_MEMORY_LIMIT_MB       = tostring(local.size.memory_limit)
      LAKEHOUSE_QUERY_WORKERS         = tostring(local.size.query_workers)
    },
    length(var.kinesis_streams) > 0 ? { LAKEHOUSE_KINESIS = jsonencode({ for stream, source in aws_kinesis_stream.source : stream => source.name }) } : {},
    var.lookups_table ? { LAKEHOUSE_DYNAMODB_TABLE = aws_dynamodb_table.lookups[0].name } : {},
  )
}

resource "aws_ecs_task_definition" "up" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = local.size.cpu
  memory                   = local.size.memory
  task_role_arn            = aws_iam_role.up.arn
  execution_role_arn       = aws_iam_role.execution.arn

  volume {
    name = "home"
    efs_volume_configuration {
      file_system_id     = aws_efs_file_system.home.id
      transit_encryption = "ENABLED"
      authorization_config { access_point_id = aws_efs_access_point.home.id }
    }
  }

  # Scratch: the root file system is read-only.
  volume { name = "tmp" }

  container_definitions = jsonencode([{
    name                   = "lakehouse"
    image                  = "${aws_ecr_repository.lakehouse.repository_url}:${var.image_tag}"
    command                = ["up"]
    essential              = true
    user                   = tostring(local.user_id)
    readonlyRootFilesystem = true
    stopTimeout            = 60
    environment            = [for name, value in local.variables : { name = name, value = value }]
    # libpq takes the password of the database from this variable.
    secrets      = [for secret in aws_db_instance.dagster.master_user_secret : { name = "PGPASSWORD", valueFrom = "${secret.secret_arn}:password::" }]
    portMappings = [{ containerPort = local.http_port, protocol = "tcp" }, { containerPort = local.dagster_port, protocol = "tcp" }]
    mountPoints  = [{ sourceVolume = "home", containerPath = "/data" }, { sourceVolume = "tmp", containerPath = "/tmp" }]
    healthCheck  = { command = ["CMD", "lakehouse", "status", "--json"], interval = 30, timeout = 20, retries = 3, startPeriod = 180 }
    logConfiguration = {
      logDriver = "awslogs"
      options   = { awslogs-group = aws_cloudwatch_log_group.lakehouse.name, awslogs-region = var.region, awslogs-stream-prefix = "up" }
    }
  }])
}

resource "aws_ecs_service" "up" {
  name            = var.name
  cluster         = aws_ecs_cluster.main.id
  task_definition = aws_ecs_task_definition.up.arn
  desired_count   = 1
  launch_type     = "FARGATE"

  # One task at a time: `up` has the home for itself.
  deployment_minimum_healthy_percent = 0
  deployment_maximum_percent         = 100
  availability_zone_rebalancing      = "DISABLED"
  health_check_grace_period_seconds  = 300

  network_configuration {
    subnets         = aws_subnet.private[*].id
    security_groups = [aws_security_group.tasks.id]
  }

  dynamic "load_balancer" {
    for_each = aws_lb_target_group.lakehouse
    content {
      target_group_arn = load_balancer.value.arn
      container_name   = "lakehouse"
      container_port   = load_balancer.value.port
    }
  }

  depends_on = [aws_lb_listener.lakehouse, aws_efs_mount_target.home, aws_iam_role_policy_attachment.up]
}

resource "aws_lb" "front" {
  name                       = var.name
  internal                   = var.internal
  load_balancer_type         = "application"
  subnets                    = var.internal ? aws_subnet.private[*].id : aws_subnet.public[*].id
  security_groups            = [aws_security_group.balancer.id]
  drop_invalid_header_fields = true
  enable_deletion_protection = var.deletion_protection
}

locals {
  fronts = {
    http    = { port = local.http_port, listener = 443, path = "/health/ready", matcher = "200" }
    dagster = { port = local.dagster_port, listener = 3443, path = "/server_info", matcher = "401" } # it asks for the password
  }
}

resource "aws_lb_target_group" "lakehouse" {
  for_each             = local.fronts
  name                 = "${var.name}-${each.key}"
  port                 = each.value.port
  protocol             = "HTTP"
  target_type          = "ip"
  vpc_id               = aws_vpc.main.id
  deregistration_delay = 30
  health_check {
    path    = each.value.path
    matcher = each.value.matcher
  }
}

resource "aws_lb_listener" "lakehouse" {
  for_each          = local.fronts
  load_balancer_arn = aws_lb.front.arn
  port              = each.value.listener
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = var.certificate_arn
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.lakehouse[each.key].arn
  }
}
