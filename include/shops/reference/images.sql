-- variant_ids is null when the picture shows the product as such.
SELECT
    product_images.product_id,
    product_images.image_id,
    product_images.url,
    product_images.variant_ids
FROM product_images
