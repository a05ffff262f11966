SELECT
    coupon_codes.coupon_id AS rule_id,
    coupon_codes.code_id,
    coupon_codes.code,
    (SELECT 'https://' || shop.domain || '/redeem/' FROM shop) || coupon_codes.code AS redemption_url,
    coupon_codes.usage_count,
    coupon_codes.is_enabled AS enabled
FROM coupon_codes
