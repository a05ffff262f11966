-- Mailchimp knows amount, start and end of a coupon; a least order value or "first order only" it can't express.
SELECT
    coupons.coupon_id AS rule_id,
    coupons.updated_at,
    coupons.description,
    coupons.amount,
    coupons.type,
    coupons.target,
    coupons.title,
    coupons.starts_at,
    coupons.ends_at,
    coupons.is_enabled AS enabled,
    coupons.minimum_order_total IS NOT NULL OR coupons.first_order_only AS other_conditions,
    coupons.deleted_at IS NOT NULL AS is_deleted
FROM coupons
