SELECT
    order_promotions.order_id,
    order_promotions.code,
    order_promotions.type,
    order_promotions.amount_discounted
FROM order_promotions
