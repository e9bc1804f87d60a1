variable "name" {
  description = "Name of this lakehouse, with which the names of all its resources begin."
  type        = string
  default     = "lake"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,20}[a-z0-9]$", var.name))
    error_message = "Use 3 to 22 lower-case letters, digits and hyphens, because bucket names begin with it."
  }
}

variable "region" {
  description = "The AWS region of everything."
  type        = string
  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "Name a region such as eu-central-1."
  }
}

variable "size" {
  description = "`small`: about 1 GB a day, one NAT gateway. `large`: about 100 GB a day, a standby database, one NAT gateway per zone."
  type        = string
  default     = "small"
  validation {
    condition     = contains(["small", "large"], var.size)
    error_message = "The sizes are small and large."
  }
}

variable "image_tag" {
  description = "Tag of the image in this account's ECR repository. Tags are immutable: a new release has a new one."
  type        = string
  default     = "0.1.0"
}

variable "certificate_arn" {
  description = "ARN of the ACM certificate with which the load balancer serves HTTPS."
  type        = string
  validation {
    condition     = can(regex("^arn:aws[a-z-]*:acm:", var.certificate_arn))
    error_message = "Name a certificate of ACM in this region by its ARN."
  }
}

variable "allowed_cidrs" {
  description = "Networks that may reach the load balancer. Senders of events still need an API key, and the Dagster page a password."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for cidr in var.allowed_cidrs : can(cidrhost(cidr, 0))])
    error_message = "Each must be a network such as 203.0.113.0/24."
  }
}

variable "internal" {
  description = "Whether the load balancer is reachable from inside the VPC only."
  type        = bool
  default     = true
}

variable "cidr" {
  description = "Network of the VPC, a /16 that overlaps no other that you peer with."
  type        = string
  default     = "10.20.0.0/16"
  validation {
    condition     = can(cidrhost(var.cidr, 0)) && endswith(var.cidr, "/16")
    error_message = "Name a /16 network such as 10.20.0.0/16."
  }
}

variable "alert_email" {
  description = "Address that gets alarms and budget warnings. AWS asks it to confirm."
  type        = string
  validation {
    condition     = can(regex("^[^@ ]+@[^@ ]+$", var.alert_email))
    error_message = "Name one e-mail address."
  }
}

variable "budget_usd" {
  description = "US dollars a month. Mails are sent at 50 and 80 percent, and when the forecast exceeds it."
  type        = number
  default     = 300
  validation {
    condition     = var.budget_usd > 0
    error_message = "The budget must be more than nothing."
  }
}

variable "athena_scan_limit_gb" {
  description = "Gigabytes that one Athena query may scan; beyond it, Athena cancels the query."
  type        = number
  default     = 100
  validation {
    condition     = var.athena_scan_limit_gb >= 1
    error_message = "At least one gigabyte."
  }
}

variable "kinesis_streams" {
  description = "Kinesis data streams to make and read: stream of the lakehouse → name, such as { financial = \"payments\" }."
  type        = map(string)
  default     = {}
}

variable "firehose_streams" {
  description = "Streams of the lakehouse that get a Firehose delivery stream into `incoming/`."
  type        = set(string)
  default     = []
}

variable "lookups_table" {
  description = "Whether look-ups are written to a DynamoDB table as well."
  type        = bool
  default     = false
}

variable "generate_password" {
  description = "Whether the Dagster page gets a password from here. Without it, put LAKEHOUSE_DAGSTER_PASSWORD into the secret yourself."
  type        = bool
  default     = true
}

variable "secret_version" {
  description = "Count up to get a new password for the Dagster page."
  type        = number
  default     = 1
}

variable "operator_principals" {
  description = "ARNs of the users or roles that may assume the operator role, with MFA."
  type        = list(string)
  default     = []
}

variable "anomaly_monitor" {
  description = "Whether Cost Explorer watches for unusual costs. An account may have one monitor of this kind only."
  type        = bool
  default     = false
}

variable "deletion_protection" {
  description = "Whether the bucket and the database refuse to be destroyed while they hold data. Switch it off for a trial."
  type        = bool
  default     = true
}
