locals {
  account = data.aws_caller_identity.current.account_id
  zones   = slice(data.aws_availability_zones.available.names, 0, 2)

  sizes = {
    small = {
      cpu           = 2048
      memory        = 8192
      database      = "db.t4g.small"
      storage_gb    = 20
      multi_az      = false
      nat_gateways  = 1
      log_days      = 30
      memory_limit  = 2048
      query_workers = 2
    }
    large = {
      cpu           = 8192
      memory        = 32768
      database      = "db.m7g.large"
      storage_gb    = 100
      multi_az      = true
      nat_gateways  = 2
      log_days      = 90
      memory_limit  = 12288
      query_workers = 6
    }
  }
  size = local.sizes[var.size]

  databases = ["realtime", "bronze", "silver", "quarantine", "gold", "serving"]

  http_port    = 8000
  dagster_port = 3000
  user_id      = 10001
}
