terraform {
  required_version = ">= 1.11"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 6"
    }
  }
}

provider "aws" {
  region = var.region
  default_tags { tags = { project = var.name } }
}

data "aws_caller_identity" "current" {}

data "aws_availability_zones" "available" { state = "available" }
