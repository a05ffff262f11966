SELECT
    newsletter_groups.customer_id,
    newsletter_groups.group_name
FROM newsletter_groups
