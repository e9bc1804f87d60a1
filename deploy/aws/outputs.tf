output "bucket" {
  description = "The bucket of the lake."
  value       = aws_s3_bucket.lake.bucket
}

output "repository" {
  description = "Where to push the image."
  value       = aws_ecr_repository.lakehouse.repository_url
}

output "http_url" {
  description = "Where to send events and queries. Point the name of the certificate here."
  value       = "https://${aws_lb.front.dns_name}"
}

output "dagster_url" {
  description = "The Dagster page. Its password is in the secret."
  value       = "https://${aws_lb.front.dns_name}:3443"
}

output "secret_arn" {
  description = "The secret with LAKEHOUSE_ variables, among them the password of the Dagster page."
  value       = aws_secretsmanager_secret.settings.arn
}

output "variables" {
  description = "The settings of the service, to run commands on the same lake from elsewhere."
  value       = local.variables
}

output "roles" {
  description = "ARNs of the roles by duty."
  value       = { for duty, role in aws_iam_role.duty : duty => role.arn }
}

output "athena_workgroup" {
  description = "The workgroup with the scan limit."
  value       = aws_athena_workgroup.lake.name
}
